import json
import random
import shutil
import subprocess
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace import storage
from headrace.artifacts import Corpus, Tokenizer, TokenShards
from headrace.data.documents import Document, read_documents, sealed_parents
from headrace.data.quarantine import Quarantine
from headrace.data.shard_files import RECORD, OpenShards
from headrace.data.shards import QUARANTINE_FILE, ShardConfig, combine_shards, open_shards, write_shards
from headrace.data.tokenizer import TextTokenizer, TokenizerConfig, train_tokenizer
from headrace.errors import ConfigError, DataError, IntegrityError, MismatchError

MakeShards = Callable[..., OpenShards]
LINES: list[dict[str, Any]] = [
    {"text": f"water turns wheel {n} " * (1 + n % 5), "source": f"mill{n % 3}"}
    if n % 4
    else {"prompt": f"the gate {n} opens:", "target": f" {n} turns", "source": "gate"}
    for n in range(57)
]


def expected(tokenizer: TextTokenizer, line: dict[str, Any]) -> tuple[list[int], int]:
    """Tokens and prompt length of one line, encoded on its own."""
    if "text" in line:
        return [*tokenizer.encode(line["text"]), tokenizer.eos_id], 0
    prompt = tokenizer.encode(line["prompt"])
    return [*prompt, *tokenizer.encode(line["target"]), tokenizer.eos_id], len(prompt)


def contents(shards: OpenShards) -> list[tuple[list[int], int]]:
    return [(shards.document(n).tolist(), shards.prompt_tokens(n)) for n in range(len(shards))]


def test_documents_come_back_as_encoded_one_by_one(shards_of: MakeShards, tokenizer: TextTokenizer) -> None:
    shards = shards_of(LINES)
    assert contents(shards) == [expected(tokenizer, line) for line in LINES]
    assert [shards.source(n) for n in range(len(shards))] == [line["source"] for line in LINES]
    assert shards.prompted() == sum("prompt" in line for line in LINES)


def test_facts_count_tokens_per_source(shards_of: MakeShards, tokenizer: TextTokenizer) -> None:
    shards = shards_of(LINES)
    counts = Counter[str]()
    for line in LINES:
        counts[line["source"]] += len(expected(tokenizer, line)[0])
    facts = storage.read(shards.path, TokenShards).facts
    assert facts == TokenShards(
        tokenizer=tokenizer.fingerprint, documents=57, tokens=counts.total(), sources=dict(counts)
    )
    assert shards.sources == dict(counts) and shards.tokens == counts.total()


@pytest.mark.parametrize(
    "config",
    [
        {"documents_per_batch": 1},
        {"documents_per_batch": 7, "tokens_per_file": 1},
        {"characters_per_batch": 100, "tokens_per_file": 300},
        {"tokens_per_file": 1},
    ],
)
def test_batches_and_files_do_not_change_the_documents(shards_of: MakeShards, config: dict[str, int]) -> None:
    whole, cut = shards_of(LINES, "whole"), shards_of(LINES, "cut", **config)
    assert contents(cut) == contents(whole)
    assert cut.sources == whole.sources
    assert [cut.source(n) for n in range(57)] == [whole.source(n) for n in range(57)]
    some = np.random.default_rng(0).integers(0, 57, 200)
    assert cut.lengths(some).tolist() == [len(whole.document(n)) for n in some]
    assert cut.prompts(some).tolist() == [whole.prompt_tokens(n) for n in some]


def test_a_file_ends_with_the_document_that_fills_it(shards_of: MakeShards, tokenizer: TextTokenizer) -> None:
    lengths = [len(expected(tokenizer, line)[0]) for line in LINES]
    wanted = [[0, 0]]
    for length in lengths:
        if wanted[-1][1] >= 100:
            wanted.append([0, 0])
        wanted[-1][0] += 1
        wanted[-1][1] += length
    shards = shards_of(LINES, documents_per_batch=10, tokens_per_file=100)
    assert [[file.documents, file.tokens] for file in shards.layout.files] == wanted


def test_equal_input_gives_equal_digests_and_names_its_parents(tmp_path: Path, tokenizer_uri: str) -> None:
    with storage.writing(tmp_path / "corpus") as tree:
        (tree.path / "c.jsonl").write_text(json.dumps(LINES[1]))
        corpus = tree.commit(Corpus(documents=1, sources={"mill1": 1}))
    parents = sealed_parents([str(tmp_path / "corpus")])
    made = [
        write_shards(
            read_documents(str(tmp_path / "corpus")), tokenizer_uri, tmp_path / name, ShardConfig(), parents=parents
        )
        for name in ("a", "b")
    ]
    assert made[0].digest == made[1].digest
    assert made[0].parents == {"corpus": corpus.digest, "tokenizer": storage.read_manifest(tokenizer_uri).digest}


def test_ids_take_two_bytes_below_65536_and_four_above(
    shards_of: MakeShards, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as Backend

    narrow = shards_of(LINES)
    assert narrow.document(0).dtype == np.uint16
    assert (narrow.path / "00000.tokens").stat().st_size == 2 * narrow.tokens
    backend = Backend.from_str(tokenizer._text)
    backend.add_tokens([AddedToken(f"<{n}>") for n in range(70_000)])
    (tmp_path / "wide").mkdir()
    backend.save(str(tmp_path / "wide/tokenizer.json"))
    (tmp_path / "c.jsonl").write_text('{"text": "water<69999>"}')
    write_shards(read_documents(str(tmp_path / "c.jsonl")), tmp_path / "wide", tmp_path / "made", ShardConfig())
    wide = open_shards(tmp_path / "made")
    assert wide.document(0).dtype == np.uint32
    assert wide.document(0)[-2] == backend.token_to_id("<69999>") > 2**16


def test_documents_are_read_only_views_of_the_file(shards_of: MakeShards) -> None:
    document = shards_of(LINES).document(3)
    assert not document.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        document[0] = 1


@pytest.mark.parametrize("number", [-1, 57])
def test_document_numbers_out_of_range_are_refused(shards_of: MakeShards, number: int) -> None:
    with pytest.raises(IndexError):
        shards_of(LINES).document(number)


def test_combined_shards_are_those_of_the_whole_corpus(shards_of: MakeShards, tmp_path: Path) -> None:
    parts = [shards_of(LINES[:20], "a", tokens_per_file=1, documents_per_batch=8), shards_of(LINES[20:], "b")]
    manifest = combine_shards([str(part.path) for part in parts], tmp_path / "both")
    both, whole = open_shards(tmp_path / "both"), shards_of(LINES, "whole")
    assert contents(both) == contents(whole)
    assert [both.source(n) for n in range(57)] == [whole.source(n) for n in range(57)]
    assert manifest.facts == storage.read(whole.path, TokenShards).facts
    assert manifest.parents == {"shards_0": parts[0].digest, "shards_1": parts[1].digest}


@pytest.fixture
def foreign(tmp_path: Path) -> OpenShards:
    (tmp_path / "f.jsonl").write_text('{"text": "foreign words, foreign tokens"}')
    train_tokenizer([str(tmp_path / "f.jsonl")], tmp_path / "foreign-tokenizer", TokenizerConfig(vocabulary=265))
    write_shards(
        read_documents(str(tmp_path / "f.jsonl")), tmp_path / "foreign-tokenizer", tmp_path / "foreign", ShardConfig()
    )
    return open_shards(tmp_path / "foreign")


def test_shards_of_two_tokenizers_are_not_combined(shards_of: MakeShards, foreign: OpenShards, tmp_path: Path) -> None:
    shards = shards_of(LINES)
    with pytest.raises(MismatchError, match=f"{foreign.fingerprint[:12]}.*{shards.fingerprint[:12]}"):
        combine_shards([str(shards.path), str(foreign.path)], tmp_path / "both")
    assert not (tmp_path / "both").exists()
    with pytest.raises(ConfigError, match="no shards to combine"):
        combine_shards([], tmp_path / "both")


def test_shards_of_another_tokenizer_are_refused(
    shards_of: MakeShards, tokenizer: TextTokenizer, foreign: OpenShards
) -> None:
    shards = shards_of(LINES)
    assert len(open_shards(shards.path, tokenizer.fingerprint)) == 57
    with pytest.raises(MismatchError, match=f"{foreign.fingerprint[:12]}.*{tokenizer.fingerprint[:12]}") as refusal:
        open_shards(foreign.path, tokenizer.fingerprint)
    assert "\n" not in str(refusal.value)


def test_a_flipped_byte_and_another_kind_are_found(shards_of: MakeShards, tokenizer_uri: str) -> None:
    shards = shards_of(LINES)
    file = shards.path / "00000.tokens"
    data = bytearray(file.read_bytes())
    data[11] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match=r"00000\.tokens is altered"):
        open_shards(shards.path)
    with pytest.raises(MismatchError, match="is of kind tokenizer"):
        open_shards(tokenizer_uri)


def test_a_corpus_that_breaks_halfway_leaves_nothing(tmp_path: Path, tokenizer_uri: str) -> None:
    (tmp_path / "c.jsonl").write_text('{"text": "water"}\n{"text": ')
    with pytest.raises(DataError, match=r"c\.jsonl:2"):
        write_shards(
            read_documents(str(tmp_path)), tokenizer_uri, tmp_path / "made/here", ShardConfig(documents_per_batch=1)
        )
    with pytest.raises(DataError, match="would hold no document"):
        write_shards([], tokenizer_uri, tmp_path / "made/here", ShardConfig())
    assert list((tmp_path / "made").iterdir()) == []


@pytest.mark.parametrize("name", ["documents_per_batch", "characters_per_batch", "tokens_per_file"])
def test_amounts_below_one_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}=0"):
        ShardConfig(**{name: 0})


def test_memory_does_not_grow_with_the_corpus(
    tmp_path: Path, tokenizer_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "HASH_BLOCK_BYTES", 2**16)
    peaks = []
    for lines in (10, 1500, 9000):  # the first imports what the others use
        path = tmp_path / f"{lines}.jsonl"
        path.write_text("".join(json.dumps({"text": f"{n} water turns the wheel " * 40}) + "\n" for n in range(lines)))
        tracemalloc.start()
        write_shards(read_documents(str(path)), tokenizer_uri, tmp_path / "made", ShardConfig(documents_per_batch=64))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.2 * peaks[1]


def test_shards_can_be_made_with_the_tokenizer_of_a_plain_directory(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    tokenizer.save(tmp_path / "plain/tokenizer.json")
    (tmp_path / "c.txt").write_text("water")
    manifest = write_shards(
        read_documents(str(tmp_path / "c.txt")), tmp_path / "plain", tmp_path / "made", ShardConfig()
    )
    assert manifest.parents == {}
    assert manifest.facts.tokenizer == tokenizer.fingerprint
    assert not isinstance(manifest.facts, Tokenizer)


PILE = Path(__file__).parents[4] / "shared/data/pretrain/pile_like"


@pytest.mark.skipif(not PILE.exists(), reason="shared/data is not on this machine")
def test_a_slice_of_the_pile_keeps_its_sources(tokenizer_uri: str, tokenizer: TextTokenizer, tmp_path: Path) -> None:
    write_shards(read_documents(str(PILE)), tokenizer_uri, tmp_path / "made", ShardConfig())
    shards, documents = open_shards(tmp_path / "made"), list(read_documents(str(PILE)))
    assert len(shards) == len(documents) == 194
    assert set(shards.sources) == {"Wikipedia (en)", "Pile-CC", "ArXiv", "Github", "Gutenberg (PG-19)"}
    for number in range(0, 194, 20):
        assert tokenizer.decode(shards.document(number)) == documents[number].text


def some_documents(seed: int, count: int) -> list[Document]:
    chance = random.Random(seed)
    documents = []
    for line in range(1, count + 1):
        text = "".join(chance.choices("the wheel turns 水é\n <|endoftext|>", k=chance.randint(1, 90)))
        place = {"file": f"/corpus/{chance.randrange(3)}.jsonl", "line": line}
        source = chance.choice(("pile", "pile/ArXiv", "pile/Github", "pilex", "p3/imdb", "p3/imdb_Movie"))
        if chance.random() < 0.5:
            documents.append(Document(source=source, text=text, **place))
        else:
            prompt = "".join(chance.choices("wheel: ", k=chance.randint(0, 20)))
            documents.append(Document(source=source, prompt=prompt, target=text, **place))
    return documents


def plain_shards(documents: list[Document], tokenizer: TextTokenizer) -> tuple[bytes, list[tuple[int, int]]]:
    """Tokens as they should lie in one file, and each document's end and prompt, encoded one by one."""
    ids: list[int] = []
    index = []
    for document in documents:
        prompt = tokenizer.encode(document.prompt)
        ids += [*prompt, *tokenizer.encode(document.text or document.target), tokenizer.eos_id]
        index.append((len(ids), len(prompt)))
    return np.array(ids, "<u2").tobytes(), index


@pytest.mark.parametrize("batch", [{"documents_per_batch": 1}, {"characters_per_batch": 500}, {}])
def test_threads_write_what_a_plain_loop_would(
    batch: dict[str, int], tmp_path: Path, tokenizer_uri: str, tokenizer: TextTokenizer
) -> None:
    documents = some_documents(1, 400)
    write_shards(iter(documents), tokenizer_uri, tmp_path / "made", ShardConfig(**batch))
    tokens, index = plain_shards(documents, tokenizer)
    shards = open_shards(tmp_path / "made")
    assert (shards.path / "00000.tokens").read_bytes() == tokens
    records = np.fromfile(shards.path / "00000.index", RECORD)
    assert list(zip(records["end"].tolist(), records["prompt_tokens"].tolist(), strict=True)) == index
    assert [shards.source(n) for n in range(400)] == [document.source for document in documents]
    assert [shards.origin(n) for n in range(400)] == [f"{one.file}:{one.line}" for one in documents]


@pytest.mark.parametrize("tokens_per_file", [1, 777, 2**31])
def test_equal_documents_give_equal_digests_for_any_batches_and_threads(
    tokens_per_file: int, tmp_path: Path, tokenizer_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents, digests = some_documents(2, 150), set()
    for threads, batch in ((1, 4096), (1, 1), (3, 7), (4, 64)):
        monkeypatch.setattr("headrace.data.shards._encoders", lambda threads=threads: threads)
        config = ShardConfig(documents_per_batch=batch, tokens_per_file=tokens_per_file)
        digests.add(write_shards(documents, tokenizer_uri, tmp_path / "made", config).digest)
    assert len(digests) == 1
    open_shards(tmp_path / "made", verify=True)


def test_origins_survive_files_and_joining(tmp_path: Path, tokenizer_uri: str) -> None:
    documents = some_documents(3, 90)
    for name, part in (("a", documents[:40]), ("b", documents[40:])):
        write_shards(part, tokenizer_uri, tmp_path / name, ShardConfig(tokens_per_file=300))
    combine_shards([tmp_path / "a", tmp_path / "b"], tmp_path / "both")
    both = open_shards(tmp_path / "both")
    assert len(both.layout.files) > 4
    assert [both.origin(n) for n in range(90)] == [f"{one.file}:{one.line}" for one in documents]


@pytest.mark.parametrize("source", ["pile", "pile/ArXiv", "p3", "p3/imdb"])
def test_a_view_holds_the_documents_of_a_source_and_its_subsets(
    source: str, tmp_path: Path, tokenizer_uri: str
) -> None:
    documents = some_documents(4, 200)
    write_shards(documents, tokenizer_uri, tmp_path / "made", ShardConfig(tokens_per_file=500))
    whole = open_shards(tmp_path / "made")
    view = whole.select(source)
    wanted = [n for n, one in enumerate(documents) if one.source == source or one.source.startswith(f"{source}/")]
    assert 0 < len(wanted) < 200
    numbers = np.random.default_rng(0).integers(0, len(wanted), 300)
    assert contents(view) == [contents(whole)[n] for n in wanted]
    assert [view.origin(n) for n in range(len(view))] == [whole.origin(n) for n in wanted]
    assert view.lengths(numbers).tolist() == [len(whole.document(wanted[n])) for n in numbers]
    assert view.prompts(numbers).tolist() == [whole.prompt_tokens(wanted[n]) for n in numbers]
    assert view.numbers(numbers).tolist() == [wanted[n] for n in numbers]
    assert view.tokens == sum(view.sources.values()) == sum(len(whole.document(n)) for n in wanted)
    assert set(view.sources) == {documents[n].source for n in wanted}
    assert view.prompted() == sum(whole.prompt_tokens(n) > 0 for n in wanted)
    with pytest.raises(IndexError):
        view.document(len(wanted))


def test_a_view_of_a_view_and_of_everything(tmp_path: Path, tokenizer_uri: str) -> None:
    documents = some_documents(5, 80)
    write_shards(documents, tokenizer_uri, tmp_path / "made", ShardConfig())
    whole = open_shards(tmp_path / "made")
    assert contents(whole.select("pile").select("pile/ArXiv")) == contents(whole.select("pile/ArXiv"))
    only = whole.select("pilex")
    assert only.select("pilex") is only
    with pytest.raises(ConfigError, match="holds no source 'pil'"):
        whole.select("pil")


@pytest.mark.parametrize("fails_at", [0, 3, 400])
def test_an_error_of_the_documents_leaves_nothing(fails_at: int, tmp_path: Path, tokenizer_uri: str) -> None:
    def documents() -> Iterator[Document]:
        yield from some_documents(6, fails_at)
        raise DataError("c.jsonl:7 is broken. Repair it.")

    with pytest.raises(DataError, match=r"c\.jsonl:7 is broken"):
        write_shards(documents(), tokenizer_uri, tmp_path / "out/made", ShardConfig(documents_per_batch=2))
    assert list((tmp_path / "out").iterdir()) == []
    assert not any(thread.name.startswith("in-order") for thread in threading.enumerate())


def test_an_error_of_encoding_or_writing_comes_out_and_leaves_nothing(tmp_path: Path, tokenizer_uri: str) -> None:
    surrogate = Document(source="pile", text="\ud800", file="/c.jsonl", line=7)
    number_too_large = Document(source="pile", text="water", line=2**40)
    for fault, error in ((surrogate, DataError), (number_too_large, OverflowError)):
        documents = [*some_documents(7, 50), fault, *some_documents(8, 50)]
        with pytest.raises(error, match=r"c\.jsonl:7 has half a surrogate pair|out of bounds"):
            write_shards(documents, tokenizer_uri, tmp_path / "out/made", ShardConfig(documents_per_batch=3))
        assert list((tmp_path / "out").iterdir()) == []


def test_faults_lie_beside_the_shards_and_are_counted(tmp_path: Path, tokenizer_uri: str) -> None:
    for name, bad in (("a", 2), ("b", 0), ("c", 1)):
        quarantine = Quarantine(limit=0.5)
        for line in range(bad):
            quarantine.add(f"/{name}.jsonl", line + 1, "is broken JSON")
        quarantine.seen(10)
        write_shards(some_documents(9, 10), tokenizer_uri, tmp_path / name, ShardConfig(), quarantine=quarantine)
        assert open_shards(tmp_path / name).stored.facts.quarantined == bad
        assert (tmp_path / name / QUARANTINE_FILE).exists() == (bad > 0)
    combine_shards([tmp_path / name for name in "abc"], tmp_path / "all")
    both = open_shards(tmp_path / "all")
    assert both.stored.facts.quarantined == 3
    faults = [json.loads(line) for line in (both.path / QUARANTINE_FILE).read_text().splitlines()]
    places = [("/a.jsonl", 1), ("/a.jsonl", 2), ("/c.jsonl", 1)]
    assert [(fault["file"], fault["line"]) for fault in faults] == places
    assert {fault["reason"] for fault in faults} == {"is broken JSON"}


def test_too_many_faults_leave_nothing(tmp_path: Path, tokenizer_uri: str) -> None:
    quarantine = Quarantine(limit=0.01)
    quarantine.add("/a.jsonl", 7, "is broken JSON")
    quarantine.seen(10)
    with pytest.raises(DataError, match=r"/a\.jsonl:7 is broken JSON"):
        write_shards(some_documents(9, 10), tokenizer_uri, tmp_path / "out/a", ShardConfig(), quarantine=quarantine)
    assert list((tmp_path / "out").iterdir()) == []


def test_joined_files_are_linked_not_copied(tmp_path: Path, tokenizer_uri: str) -> None:
    for name in "ab":
        write_shards(some_documents(ord(name), 10), tokenizer_uri, tmp_path / name, ShardConfig())
    combine_shards([tmp_path / "a", tmp_path / "b"], tmp_path / "both")
    assert (tmp_path / "both/00001.tokens").samefile(tmp_path / "b/00000.tokens")
    open_shards(tmp_path / "both", verify=True)
    shutil.rmtree(tmp_path / "b")
    open_shards(tmp_path / "both", verify=True)


def test_an_altered_part_is_not_joined(tmp_path: Path, tokenizer_uri: str) -> None:
    write_shards(some_documents(1, 10), tokenizer_uri, tmp_path / "a", ShardConfig())
    data = bytearray((tmp_path / "a/00000.tokens").read_bytes())
    data[3] ^= 1
    (tmp_path / "a/00000.tokens").write_bytes(data)
    with pytest.raises(IntegrityError, match="altered"):
        combine_shards([tmp_path / "a"], tmp_path / "both")


WRITER = """
import itertools, sys
from headrace.data.documents import Document
from headrace.data.shards import QUARANTINE_FILE, ShardConfig, write_shards
def documents():
    for number in itertools.count(1):
        yield Document(source="pile", text=f"water turns wheel {number} " * 50, file="/c.jsonl", line=number)
        if number == 3000:
            print("half way", flush=True)
write_shards(documents(), sys.argv[1], sys.argv[2], ShardConfig(documents_per_batch=16, tokens_per_file=20_000))
"""


def test_a_killed_write_leaves_nothing_and_the_next_one_clears_up(tmp_path: Path, tokenizer_uri: str) -> None:
    command = [sys.executable, "-c", WRITER, tokenizer_uri, str(tmp_path / "out/made")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "half way\n"
        process.kill()
    assert [path.name.split("-")[0] for path in (tmp_path / "out").iterdir()] == ["made.partial"]
    write_shards(some_documents(1, 10), tokenizer_uri, tmp_path / "out/made", ShardConfig())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["made"]
    assert len(open_shards(tmp_path / "out/made")) == 10
