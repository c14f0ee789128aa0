import dataclasses
import io
import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from headrace import storage
from headrace.artifacts import Exclusions, LookedFor, Signatures
from headrace.data.documents import Document
from headrace.data.filtering import signatures
from headrace.data.filtering.filter import FilterConfig, OpenExclusions, filter_documents, load_exclusions, sign
from headrace.errors import ConfigError, DataError, IntegrityError, MismatchError

WORDS = [f"word{n}" for n in range(2000)]
ITEM = " ".join(f"question{n}" for n in range(15))


def corpus(seed: int = 0, size: int = 150) -> list[Document]:
    """Three files of documents with copies, near copies, instructions and quotations of `ITEM` among them."""
    draw = random.Random(seed)
    documents: list[Document] = []
    for number in range(size):
        text = " ".join(draw.choices(WORDS, k=draw.randint(30, 120)))
        kind = draw.choice(["new", "new", "new", "copy", "near", "quote", "instruction", "empty"])
        earlier = [one for one in documents if " " in one.text]
        if kind in ("copy", "near") and earlier:
            words = draw.choice(earlier).text.split(" ")
            words[3] = "other" if kind == "near" else words[3]
            text = " ".join(words) + draw.choice(["", "\n"])
        if kind == "quote":
            text += f" {ITEM.upper()}?"
        place = {"source": f"s{number % 4}", "file": f"/c/{'abc'[number % 3]}.jsonl", "line": number // 3 + 1}
        if kind == "instruction":
            documents.append(Document(prompt=f"Say {number % 5}:", target="aye", **place))
        else:
            documents.append(Document(text="..." if kind == "empty" else text, **place))
    return documents


def excluded(folder: Path, pieces: Sequence[Sequence[Document]], config: FilterConfig | None = None) -> OpenExclusions:
    config = config or FilterConfig()
    uris = [folder / f"signed-{number}" for number in range(len(pieces))]
    for uri, piece in zip(uris, pieces, strict=True):
        sign(iter(piece), uri, config, evaluation=[("exam:1", ITEM)])
    filter_documents(uris, folder / "exclusions", config)
    return load_exclusions(folder / "exclusions")


def records(found: OpenExclusions) -> list[tuple[str, int, str, str]]:
    return [(one["file"], one["line"], one["kind"], one["reason"]) for one in found.records()]


def by_file(documents: Sequence[Document]) -> list[list[Document]]:
    return [[one for one in documents if one.file == name] for name in sorted({one.file for one in documents})]


def test_the_result_is_the_same_for_any_pieces_in_any_order(tmp_path: Path) -> None:
    documents = corpus()
    shuffled = random.Random(1).sample(documents, len(documents))
    cuts: list[list[Sequence[Document]]] = [
        [documents],
        list(by_file(documents)),
        list(reversed(by_file(documents))),
        [shuffled[at : at + 11] for at in range(0, len(shuffled), 11)],
        [[one] for one in documents[:40]] + [documents[40:], []],
    ]
    results = [excluded(tmp_path / str(number), pieces) for number, pieces in enumerate(cuts)]
    assert {kind for _, _, kind, _ in records(results[0])} == {"exact", "near", "contaminated"}
    for result in results[1:]:
        assert records(result) == records(results[0])
        assert list(result.overlaps()) == list(results[0].overlaps())
        assert result.facts == results[0].facts


def test_batches_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = corpus(2)
    whole = records(excluded(tmp_path / "whole", [documents]))
    monkeypatch.setattr(signatures, "BATCH_DOCUMENTS", 3)
    assert records(excluded(tmp_path / "cut", [documents])) == whole


def test_every_reason_is_true_and_the_first_of_equals_stays(tmp_path: Path) -> None:
    documents = sorted(corpus(3), key=lambda one: (one.file, one.line))
    found = excluded(tmp_path, [documents])
    by_id = {f"{one.file}:{one.line}": one for one in documents}
    left_out = {f"{file}:{line}": (kind, reason) for file, line, kind, reason in records(found)}
    order = list(by_id)
    for name, (kind, reason) in left_out.items():
        if kind == "contaminated":
            assert ITEM in by_id[name].text.lower() and reason == f"contaminated by exam:1: '{ITEM}'"
            continue
        like = reason.split()[3]
        assert order.index(like) < order.index(name) and left_out.get(like, ("near", ""))[0] == "near"
        one, other = by_id[name], by_id[like]
        if kind == "exact":
            assert (one.text.strip(), one.prompt, one.target) == (other.text.strip(), other.prompt, other.target)
        else:
            assert like not in left_out and 0.8 <= float(reason[-5:-1]) < 1
    kept = [one for name, one in by_id.items() if name not in left_out]
    assert len({(one.text.strip(), one.prompt, one.target) for one in kept}) == len(kept)
    assert not any(ITEM in one.text.lower() for one in kept)


def test_facts_count_what_the_lines_say(tmp_path: Path) -> None:
    documents = corpus(4)
    found = excluded(tmp_path, by_file(documents))
    kinds = Counter(kind for _, _, kind, _ in records(found))
    assert found.counts() == kinds and found.facts.documents == len(documents)
    assert found.facts.overlapping == found.facts.contaminated and (found.facts.items, found.facts.unchecked) == (1, 0)
    for source in {one.source for one in documents}:
        mine = [one for one in documents if one.source == source]
        lines = Counter(one["kind"] for one in found.records() if one["source"] == source)
        numbers = found.facts.sources[source]
        assert numbers["documents"] == len(mine)
        assert numbers["bytes"] == sum(len(one.text or f"{one.prompt} {one.target}") for one in mine)
        assert {name: numbers[name] for name in kinds} == {name: lines[name] for name in kinds}


def test_lines_are_looked_up_by_file(tmp_path: Path) -> None:
    found = excluded(tmp_path, [corpus()])
    assert found.lines("/c/none.jsonl") == frozenset()
    wanted = {(file, line) for file, line, _, _ in records(found)}
    assert {(f"/c/{n}.jsonl", line) for n in "abc" for line in found.lines(f"/c/{n}.jsonl")} == wanted


def document(number: int, text: str = "", **fields: str) -> Document:
    return Document(source="s", text=text, file="/c/a.jsonl", line=number, **fields)


LONG = " ".join(WORDS[:200])
PAIR = [document(1, LONG), document(2, f"{LONG} and some words more that are nowhere else in this text")]


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({}, ["contaminated", "exact", "near"]),
        ({"exact": False}, ["contaminated", "near", "near"]),
        ({"near": False}, ["contaminated", "exact"]),
        ({"contamination": "report"}, ["exact", "near"]),
        ({"contamination": "off"}, ["exact", "near"]),
        ({"jaccard": 1.0}, ["contaminated", "exact"]),
        ({"ngram_words": 16, "least_words": 16}, ["exact", "near"]),
        ({"exact": False, "near": False, "contamination": "off"}, []),
    ],
)
def test_each_kind_of_removal_is_a_choice(tmp_path: Path, change: dict[str, object], kinds: list[str]) -> None:
    documents = [*PAIR, document(3, LONG), document(4, f"new {ITEM}")]
    found = excluded(tmp_path, [documents], dataclasses.replace(FilterConfig(), **change))
    assert sorted(kind for _, _, kind, _ in records(found)) == kinds
    reported = change.get("contamination") != "off" and "ngram_words" not in change
    assert [one["item"] for one in found.overlaps()] == ["exam:1"] * reported
    assert found.facts.overlapping == reported


def test_instructions_are_compared_by_minhash_only_if_asked(tmp_path: Path) -> None:
    tasks = [document(n, prompt=f"{LONG} case {n}:", target="yes") for n in (1, 2)]
    assert records(excluded(tmp_path / "a", [tasks])) == []
    found = excluded(tmp_path / "b", [tasks], FilterConfig(near_instructions=True))
    assert [kind for _, _, kind, _ in records(found)] == ["near"]


def test_of_two_alike_documents_the_contaminated_one_does_not_push_out_the_other(tmp_path: Path) -> None:
    documents = [document(1, f"{LONG} {ITEM}"), document(2, LONG), document(3, LONG + " more")]
    found = excluded(tmp_path, [documents])
    assert [(line, kind) for _, line, kind, _ in records(found)] == [(1, "contaminated"), (3, "near")]
    reported = excluded(tmp_path, [documents], FilterConfig(contamination="report"))
    assert [(line, kind) for _, line, kind, _ in records(reported)] == [(2, "near"), (3, "near")]


def test_a_document_that_is_signed_twice_is_one_and_another_under_its_id_is_refused(tmp_path: Path) -> None:
    assert records(excluded(tmp_path, [PAIR[:1], PAIR[:1]])) == []
    with pytest.raises(DataError, match=r"/c/a\.jsonl:1 is the id of two different documents"):
        excluded(tmp_path, [PAIR[:1], [document(1, "something else")]])


def test_nothing_is_left_out_of_nothing(tmp_path: Path) -> None:
    found = excluded(tmp_path, [[]])
    assert found.facts.documents == 0 and records(found) == [] and found.facts.sources == {}


def test_texts_of_any_characters_are_carried_whole(tmp_path: Path) -> None:
    texts = ["水車は回る" * 5, "水車は回る" * 5, "\ud800 half", "naïve \u2028 line", "😀" * 30, "😀" * 30]
    found = excluded(tmp_path, [[document(n, text) for n, text in enumerate(texts, start=1)]])
    assert [(line, kind) for _, line, kind, _ in records(found)] == [(2, "exact"), (6, "exact")]


def test_signatures_of_other_schemes_or_items_are_not_compared(tmp_path: Path) -> None:
    config = FilterConfig()
    sign(PAIR, tmp_path / "a", config, evaluation=[("exam:1", ITEM)])
    sign(PAIR, tmp_path / "b", config, evaluation=[("exam:1", "other " * 13)])
    sign(PAIR, tmp_path / "c", config, evaluation=[("exam:1", ITEM)], item_files={"exam": ["f" * 64]})
    sign(PAIR, tmp_path / "off", FilterConfig(contamination="off"), item_files={"exam": ["f" * 64]})
    out = tmp_path / "exclusions"
    with pytest.raises(MismatchError, match=r"signed rensa \d+: 128 x 5 words, seed 0, text, not .* seed 1"):
        filter_documents([tmp_path / "a"], out, FilterConfig(seed=1))
    for other in ("b", "c"):
        with pytest.raises(MismatchError, match="not checked against the evaluation items"):
            filter_documents([tmp_path / "a", tmp_path / other], out, config)
    with pytest.raises(MismatchError, match="not checked against the evaluation items"):
        filter_documents([tmp_path / "off"], out, config)
    with pytest.raises(ConfigError, match="no signatures"):
        filter_documents([], out, config)
    assert not out.exists()
    expected = {"exam": LookedFor(files=("f" * 64,), items=1, unchecked=0)}
    assert filter_documents([tmp_path / "c"], out, config).facts.looked_for == expected
    assert storage.read(tmp_path / "off", Signatures).facts.looked_for == {}


def test_what_was_altered_is_refused(tmp_path: Path) -> None:
    found = excluded(tmp_path, [corpus()])
    path = tmp_path / "exclusions" / "exclusions.jsonl"
    path.write_text(path.read_text().replace("exact", "exalt", 1))
    with pytest.raises(IntegrityError):
        load_exclusions(tmp_path / "exclusions")
    assert isinstance(found.facts, Exclusions)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"permutations": 0}, "permutations=0 is no amount"),
        ({"jaccard": 0.0}, "jaccard=0.0 is no similarity"),
        ({"jaccard": 1.1}, "jaccard=1.1 is no similarity"),
        ({"least_words": 14}, "least_words=14 is above ngram_words=13"),
    ],
)
def test_configurations_that_mean_nothing_are_refused(values: dict[str, float], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        FilterConfig(**values)


def test_a_full_quarantine_leaves_no_signatures(tmp_path: Path) -> None:
    class Full:
        def check(self) -> None:
            raise DataError("3 of 5 documents cannot be used")

    with pytest.raises(DataError, match="cannot be used"):
        sign(PAIR, tmp_path / "signed", FilterConfig(), quarantine=Full())
    assert not storage.exists(tmp_path / "signed")


def test_progress_and_parents_are_told(tmp_path: Path) -> None:
    said: list[str] = []
    manifest = sign(PAIR, tmp_path / "signed", FilterConfig(), parents={"corpus": "ab" * 32}, progress=said.append)
    assert said == ["2 documents"] and manifest.parents == {"corpus": "ab" * 32}
    sealed = filter_documents([tmp_path / "signed"], tmp_path / "out", FilterConfig())
    assert sealed.parents == {"signatures_0": manifest.digest}


REAL = Path(__file__).parents[5] / "shared" / "data" / "pretrain" / "pile_like" / "small.jsonl.zst"


@pytest.mark.skipif(not REAL.exists(), reason="no real data on this machine")
def test_planted_copies_of_real_documents_are_found_and_hardly_anything_else(tmp_path: Path) -> None:
    documents = list(real_documents())
    copies = [one._replace(text=alter(one.text), file="/pile/small_copies.jsonl") for one in documents if kept_by(one)]
    found = excluded(tmp_path, [documents, copies])
    left_out = {(one["file"], one["line"]): one for one in found.records()}
    missed = [one.line for one in copies if (one.file, one.line) not in left_out]
    assert len(missed) <= len(copies) // 100
    assert sum(file == "/pile/small.jsonl" for file, _ in left_out) <= 0.05 * len(documents)


def kept_by(one: Document) -> bool:
    return len(one.text.split()) >= 100


def alter(text: str) -> str:
    words = text.split(" ")
    words[len(words) // 2] = "altered"
    return " ".join(words)


def real_documents() -> Iterator[Document]:
    import zstandard

    with REAL.open("rb") as packed:
        lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(packed), encoding="utf-8")
        for number, line in enumerate(itertools.islice(lines, 200), start=1):
            values = json.loads(line)
            yield Document(
                source=values["meta"]["pile_set_name"], text=values["text"], file="/pile/small.jsonl", line=number
            )
