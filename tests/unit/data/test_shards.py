import json
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace import storage
from headrace.artifacts import Corpus, Tokenizer, TokenShards
from headrace.data.documents import read_documents, sealed_parents
from headrace.data.shard_files import OpenShards
from headrace.data.shards import ShardConfig, combine_shards, open_shards, write_shards
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
    with pytest.raises(MismatchError, match="is a tokenizer"):
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
