"""A corpus of named sources: what is taken, how each piece is read, and what it is called."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from headrace import storage
from headrace.artifacts import Corpus
from headrace.config import decode, encode
from headrace.data import corpus, references
from headrace.data.corpus import (
    CorpusConfig,
    confirm,
    gather_corpus,
    locate,
    parents,
    pieces,
    read_piece,
    split_pieces,
    splits,
)
from headrace.data.quarantine import Quarantine
from headrace.data.shards import ShardConfig, open_shards, write_shards
from headrace.data.source_files import Piece, SourceFiles
from headrace.errors import ConfigError, DataError, IntegrityError

TASK = {
    "Definition": ["Say it."],
    "Positive Examples": [{"input": "a", "output": "b"}] * 3,
    "Negative Examples": [{"input": "c", "output": "d"}],
    "Instances": [{"input": "e", "output": ["f"]}],
}


@pytest.fixture(autouse=True)
def _file_by_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """One piece a file, but where a test is about small ones that go together."""
    monkeypatch.setattr(corpus, "BUNDLE_BYTES", 0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """One small data set in each format."""
    folder = tmp_path / "data"
    contents = {
        "pile/00.jsonl": '{"text": "a", "meta": {"pile_set_name": "ArXiv"}}\n',
        "pile/01.jsonl": '{"text": "b", "meta": {"pile_set_name": "Github"}}\n',
        "p3/sciq_Direct.jsonl": '{"prompt": "Why?", "completion": "So."}\n',
        "p3/sciq_Choice.jsonl": '{"prompt": "Who?", "completion": "I."}\n',
        "cot/creak_train.tsv": "Is it?\tno\tIt is not.\n",
        "cot/mmlu-cot.json": json.dumps({"law": "Law.\n\nQ: Who?\nA: Let's think step by step. I."}),
        "own/asked.jsonl": '{"prompt": "Who?", "target": " I."}\n',
        "test_tasks.txt": "task2_b \n\n",
        **{f"ni/{name}.json": json.dumps(TASK) for name in ("task1_a", "task2_b", "task3_c")},
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def gathered(data: Path, **sources: dict[str, Any]) -> Path:
    config = {"sources": {name: {**value, "uri": str(data / value["uri"])} for name, value in sources.items()}}
    gather_corpus(decode(CorpusConfig, config), data.parent / "out")
    return data.parent / "out"


def test_each_source_is_recognised_and_its_documents_are_named_under_it(data: Path) -> None:
    names = ("pile", "p3", "cot", "own", "ni")
    out = gathered(data, **{name: {"uri": name} for name in names})
    found = {piece: locate(out, piece) for piece in pieces(out)}
    assert Counter((piece.source, piece.format, piece.split) for piece in found.values()) == {
        ("pile", "jsonl", "text"): 2,
        ("p3", "p3", "instructions"): 2,
        ("cot", "flan_cot", "instructions"): 1,
        ("cot", "mmlu_cot", "instructions"): 1,
        ("own", "jsonl", "instructions"): 1,
        ("ni", "natural_instructions", "instructions"): 3,
    }
    assert f"text:pile={data}/pile/00.jsonl" in found
    assert sorted(document.source for piece in found.values() for document in read_piece(piece)) == [
        *("cot/creak", "cot/law", "ni/task1", "ni/task2", "ni/task3"),
        *("own", "p3/sciq_Choice", "p3/sciq_Direct", "pile/ArXiv", "pile/Github"),
    ]
    assert storage.read(out, Corpus).facts.sources == {"pile": 2, "p3": 2, "cot": 2, "own": 1, "ni": 3}


def test_a_piece_keeps_every_setting_of_its_source(data: Path) -> None:
    settings = {"positive_examples": 1, "negative_examples": 1, "quarantine_limit": 0.5, "split": "exam"}
    out = gathered(data, ni={"uri": "ni/task1_a.json", **settings}, pile={"uri": "pile", "format": "pile"})
    assert splits(out)["exam"] == [str(data / "ni/task1_a.json")]
    (piece,) = split_pieces(out, "exam")
    file = data / "ni/task1_a.json"
    known = {"uri": str(file), "bytes": file.stat().st_size, "stamps": (references.stamp(str(file)),)}
    assert piece == Piece(source="ni", format="natural_instructions", **known, **settings)
    (document,) = read_piece(piece)
    assert document.prompt == "Say it.\n\nInput: a\nOutput: b\n\nInput: c\nWrong output: d\n\nInput: e\nOutput:"
    assert [piece.partition("=")[0] for piece in pieces(out)] == ["text:pile"] * 2
    assert {locate(out, piece).format for piece in pieces(out)} == {"pile"}


@pytest.mark.parametrize(
    ("lists", "tasks"),
    [
        ({"tasks": "test_tasks.txt"}, ["task2_b"]),
        ({"except_tasks": "test_tasks.txt"}, ["task1_a", "task3_c"]),
        ({}, ["task1_a", "task2_b", "task3_c"]),
    ],
)
def test_a_list_of_tasks_says_which_files_are_taken(data: Path, lists: dict[str, str], tasks: list[str]) -> None:
    out = gathered(data, ni={"uri": "ni", **{key: str(data / name) for key, name in lists.items()}})
    assert [Path(locate(out, piece).uri).stem for piece in pieces(out)] == tasks


def test_lists_that_leave_no_task_or_name_none_are_refused(data: Path) -> None:
    (data / "other.txt").write_text("task99_z\n")
    with pytest.raises(DataError, match=r"holds no file that .*other\.txt leaves"):
        gathered(data, ni={"uri": "ni", "tasks": str(data / "other.txt")})
    (data / "other.txt").write_text("\n")
    with pytest.raises(DataError, match=r"other\.txt is empty: it names no task"):
        gathered(data, ni={"uri": "ni", "tasks": str(data / "other.txt")})


def test_empty_files_are_refused_at_once_until_a_pattern_leaves_them_out(data: Path) -> None:
    (data / "p3/sciq_None.jsonl").touch()
    with pytest.raises(DataError, match=r"1 of 3 files of source 'p3' are empty: .*sciq_None\.jsonl\. Remove them"):
        gathered(data, p3={"uri": "p3"})
    out = gathered(data, p3={"uri": "p3", "except_files": ["*_None*"]})
    assert [Path(locate(out, piece).uri).name for piece in pieces(out)] == ["sciq_Choice.jsonl", "sciq_Direct.jsonl"]
    assert json.loads((out / "corpus.json").read_text())["left_out"] == [str(data / "p3/sciq_None.jsonl")]
    with pytest.raises(DataError, match=r"holds no file 'p3\*' to leave out"):
        gathered(data, p3={"uri": "p3", "except_files": ["*_None*", "p3*"]})
    with pytest.raises(DataError, match=r"holds no file that \* leaves"):
        gathered(data, p3={"uri": "p3", "except_files": ["*"]})


def test_a_sources_files_are_watched_as_others_are(data: Path) -> None:
    out = gathered(data, pile={"uri": "pile"})
    facts = storage.read(out, Corpus).facts
    confirm(facts)
    (data / "pile/01.jsonl").write_text('{"text": "c"}\n')
    with pytest.raises(IntegrityError, match=r"01\.jsonl changed since"):
        confirm(facts)


def test_a_data_set_of_the_hub_is_one_piece(data: Path) -> None:
    pytest.importorskip("datasets")
    (data / "rows").mkdir()
    (data / "rows/train.jsonl").write_text('{"prompt": "Why?", "completion": "So."}\n' * 3)
    config = CorpusConfig(sources={"p3": SourceFiles(uri=f"hub:{data}/rows")})
    gather_corpus(config, data.parent / "out")
    (piece,) = pieces(data.parent / "out")
    assert piece == f"instructions:p3=hub:{data}/rows:train"
    found = locate(data.parent / "out", piece)
    assert (found.format, len(list(read_piece(found)))) == ("p3", 3)
    confirm(storage.read(data.parent / "out", Corpus).facts)


def test_the_order_of_a_configuration_makes_no_other_corpus(data: Path) -> None:
    one = storage.read(gathered(data, pile={"uri": "pile"}, p3={"uri": "p3"}), Corpus).digest
    assert storage.read(gathered(data, p3={"uri": "p3"}, pile={"uri": "pile"}), Corpus).digest == one
    other = gathered(data, ni={"uri": "ni", "positive_examples": 1})
    fewer = storage.read(other, Corpus).digest
    assert storage.read(gathered(data, ni={"uri": "ni"}), Corpus).digest != fewer


def test_a_piece_with_too_many_faults_is_refused_and_one_with_few_is_not(data: Path) -> None:
    (data / "pile/00.jsonl").write_text('{"text": "a"}\n{\n' + '{"text": "a"}\n' * 8)
    out = gathered(data, pile={"uri": "pile/00.jsonl"})
    with pytest.raises(DataError, match=r"1 of 10 documents cannot be used.*00\.jsonl:2 is broken JSON"):
        list(read_piece(split_pieces(out, "text")[0]))
    out = gathered(data, pile={"uri": "pile/00.jsonl", "quarantine_limit": 0.1})
    piece = split_pieces(out, "text")[0]
    apart = Quarantine(piece.quarantine_limit)
    assert len(list(read_piece(piece))) == len(list(read_piece(piece, apart))) == 9
    assert [fault.line for fault in apart.faults] == [2]


def test_shards_of_referenced_files_descend_from_their_corpus(data: Path, tokenizer_uri: str, tmp_path: Path) -> None:
    out = gathered(data, pile={"uri": "pile"})
    documents = read_piece(split_pieces(out, "text")[0])
    write_shards(documents, tokenizer_uri, tmp_path / "made", ShardConfig(), parents=parents(out))
    assert open_shards(tmp_path / "made").sources.keys() == {"pile/ArXiv"}
    assert storage.read_manifest(tmp_path / "made").parents["corpus"] == storage.read(out, Corpus).digest


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"uri": "a", "format": "pyle"}, "Did you mean 'pile'"),
        ({"uri": ""}, "empty uri"),
        ({"uri": "a", "positive_examples": -1}, "positive_examples=-1 is no number of examples"),
        ({"uri": "a", "quarantine_limit": 2.0}, "is no fraction"),
        ({"uri": "hub:a/b", "tasks": "c.txt"}, "has no task files to choose from"),
    ],
)
def test_a_source_that_cannot_be_meant_is_refused(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        SourceFiles(**values)


@pytest.mark.parametrize("name", ["", "a=b", "hub:a"])
def test_a_sources_name_can_stand_in_a_piece(name: str) -> None:
    with pytest.raises(ConfigError, match="which is no name"):
        CorpusConfig(sources={name: SourceFiles(uri="a")})


def test_an_unknown_piece_names_the_nearest_and_a_configuration_survives_its_journey(data: Path) -> None:
    out = gathered(data, pile={"uri": "pile/00.jsonl"})
    with pytest.raises(ConfigError, match="Did you mean 'text:pile="):
        locate(out, f"text:pile={data}/pile/99.jsonl")
    config = CorpusConfig(sources={"ni": SourceFiles(uri="a", tasks="b", positive_examples=1)})
    assert decode(CorpusConfig, json.loads(json.dumps(encode(config)))) == config
