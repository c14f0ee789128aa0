"""What was gathered is what is encoded: a file that changed in between is refused by its name."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from headrace import buckets, storage
from headrace.data.corpus import CorpusConfig, gather_corpus, locate, pieces, read_piece
from headrace.data.lines import BLOCK_BYTES
from headrace.data.shards import ShardConfig, write_shards
from headrace.data.source_files import Piece, SourceFiles
from headrace.errors import IntegrityError

LONG = 8 * BLOCK_BYTES // len('{"text": "river"}\n')
"""Lines of which several blocks are not yet read when the first document comes."""
CHANGED = r"{} changed since the corpus was gathered\. Gather it again\."
QUESTION = "Law.\n\nQ: Who?\nA: Let's think step by step. river"
TASK = {"Definition": ["Say it."], "Instances": [{"input": "a", "output": ["river"]}]}
CONTENTS = {
    "a.jsonl": b'{"text": "river"}\n',
    "a.jsonl.zst": zstandard.compress(b'{"text": "river"}\n', level=-100),
    "a.txt": b"river",
    "a.tsv": b"Is it?\tno\triver\n",
    "task1_a.json": json.dumps(TASK).encode(),
    "exams.json": json.dumps({"law": QUESTION}).encode(),
}


def gathered(folder: Path, uri: str) -> Piece:
    """The one piece of a corpus of `uri`."""
    gather_corpus(CorpusConfig(sources={"own": SourceFiles(uri=uri)}), folder / "corpus")
    (piece,) = pieces(folder / "corpus")
    return locate(folder / "corpus", piece)


def lines(count: int, word: str = "river") -> bytes:
    return f'{{"text": "{word}"}}\n'.encode() * count


@pytest.mark.parametrize("name", CONTENTS)
def test_another_word_of_the_same_length_is_noticed_in_every_format(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(CONTENTS[name])
    piece = gathered(tmp_path, str(tmp_path / name))
    assert len(list(read_piece(piece))) == 1
    (tmp_path / name).write_bytes(CONTENTS[name].replace(b"river", b"rover"))
    with pytest.raises(IntegrityError, match=CHANGED.format(name)):
        list(read_piece(piece))


def test_another_length_is_noticed_before_the_first_document(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(LONG))
    piece = gathered(tmp_path, str(tmp_path / "a.jsonl"))
    (tmp_path / "a.jsonl").write_bytes(lines(LONG + 1))
    with pytest.raises(IntegrityError, match=CHANGED.format(r"a\.jsonl")):
        next(read_piece(piece))


def test_the_one_that_changed_of_many_read_together_is_named(tmp_path: Path, tokenizer_uri: str) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jsonl").write_bytes(lines(2))
    piece = gathered(tmp_path, f"{tmp_path}/*.jsonl")
    (tmp_path / "1.jsonl").write_bytes(lines(2, "rover"))
    with pytest.raises(IntegrityError, match=CHANGED.format(r"1\.jsonl")):
        write_shards(read_piece(piece), tokenizer_uri, tmp_path / "shards", ShardConfig())
    assert not storage.exists(tmp_path / "shards")


def test_a_change_while_a_file_is_read_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(LONG))
    documents = read_piece(gathered(tmp_path, str(tmp_path / "a.jsonl")))
    next(documents)
    with (tmp_path / "a.jsonl").open("r+b") as file:
        file.seek(-len(lines(1)), 2)
        file.write(lines(1, "rover"))
    with pytest.raises(IntegrityError, match=CHANGED.format(r"a\.jsonl")):
        list(documents)


def test_facts_that_lie_in_the_corpus_are_watched_too(tmp_path: Path) -> None:
    gather_corpus(CorpusConfig(kind="facts"), tmp_path / "corpus")
    piece = locate(tmp_path / "corpus", "instructions=instructions.jsonl")
    file = tmp_path / "corpus/instructions.jsonl"
    file.write_bytes(file.read_bytes().replace(b"Switzerland", b"Switzer1and"))
    with pytest.raises(IntegrityError, match=CHANGED.format(r"instructions\.jsonl")):
        list(read_piece(piece))


@pytest.mark.parametrize("begun", [False, True], ids=["before", "while"])
def test_an_object_that_is_replaced_before_or_while_it_is_read_is_noticed(
    begun: bool, bucket: str, tmp_path: Path
) -> None:
    uri = f"{bucket}/river.jsonl"
    buckets.write_bytes(uri, lines(4))
    piece = gathered(tmp_path, uri)
    assert len(list(read_piece(piece))) == 4
    documents = read_piece(piece)
    if begun:
        next(documents)
    buckets.write_bytes(uri, lines(4, "rover"))
    with pytest.raises(IntegrityError, match=CHANGED.format(r"river\.jsonl")):
        list(documents)


def test_a_data_set_of_the_hub_that_changed_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "rows").mkdir()
    alter: Callable[[bytes], object] = (tmp_path / "rows/train.jsonl").write_bytes
    alter(lines(3))
    piece = gathered(tmp_path, f"hub:{tmp_path}/rows")
    assert len(list(read_piece(piece))) == 3
    alter(lines(3, "rover"))
    with pytest.raises(IntegrityError, match=CHANGED.format("rows:train")):
        list(read_piece(piece))
