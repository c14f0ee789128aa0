import json
import random
from pathlib import Path

import pytest

from headrace.data.corpus import CorpusConfig, gather_corpus
from headrace.data.filtering import contamination
from headrace.data.filtering.contamination import EvaluationIndex, Overlap
from headrace.data.filtering.items import evaluation_items
from headrace.data.filtering.words import hash_words, split_words

WORDS = ["the", "Water", "wheel,", "turns", "mill's", "größe", "水", "by"]


def find(index: EvaluationIndex, texts: list[str]) -> list[Overlap]:
    return index.find(hash_words(texts), texts)


def brute_force(
    items: list[tuple[str, str]], texts: list[str], n: int, least: int, shared: int
) -> set[tuple[int, str]]:
    """Documents and items that share an n-gram, by sets of tuples of words."""
    grams: list[set[tuple[bytes, ...]]] = []
    for _, text in items:
        words = split_words(text)
        length = n if len(words) >= n else len(words)
        there = [tuple(words[at : at + length]) for at in range(len(words) - length + 1)]
        grams.append(set(there) if length >= least else set())
    counts = {gram: sum(gram in one for one in grams) for one in grams for gram in one}
    found = set()
    for number, text in enumerate(texts):
        words = split_words(text)
        mine = {tuple(words[at : at + k]) for k in range(1, n + 1) for at in range(len(words) - k + 1)}
        for (name, _), one in zip(items, grams, strict=True):
            if any(gram in mine and counts[gram] <= shared for gram in one):
                found.add((number, name))
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("n", "least", "shared"), [(13, 8, 10), (5, 3, 2), (4, 4, 1), (2, 1, 12)])
def test_overlaps_are_those_that_brute_force_finds(seed: int, n: int, least: int, shared: int) -> None:
    draw = random.Random(seed)
    items = [(f"exam:{k}", " ".join(draw.choices(WORDS, k=draw.randint(0, 20)))) for k in range(60)]
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(0, 80))) for _ in range(60)]
    for at in range(0, 60, 4):  # an item in the middle of a text, as it might be quoted
        texts[at] += f" {items[at][1].upper()}! " + " ".join(draw.choices(WORDS, k=5))
    index = EvaluationIndex(items, words=n, least_words=least, shared_items=shared)
    found = {(overlap.document, overlap.item) for overlap in find(index, texts)}
    wanted = brute_force(items, texts, n, least, shared)
    assert found == wanted and wanted


@pytest.mark.parametrize(("length", "checked"), [(7, False), (8, True), (12, True), (13, True), (14, True)])
def test_short_items_are_looked_for_whole_down_to_the_least_length(length: int, checked: bool) -> None:
    words = [f"w{n}" for n in range(length)]
    index = EvaluationIndex([("exam:1", " ".join(words))])
    assert index.unchecked == (not checked)
    whole, part = " ".join(["a", *words, "b"]), " ".join(["a", *words[: min(length, 13) - 1], "b"])
    found = find(index, [part, whole])
    assert [(one.document, one.item, one.words) for one in found] == [(1, "exam:1", " ".join(words))] * checked


def test_an_overlap_gives_its_longest_run_and_counts_its_ngrams() -> None:
    item = [f"w{n}" for n in range(40)]
    index = EvaluationIndex([("exam:1", " ".join(item))])
    text = " ".join([*item[:14], "x", *item[10:30], "y", *item[25:37]])
    (overlap,) = find(index, [text])
    assert overlap.words == " ".join(item[10:30])
    assert overlap.ngrams == 2 + 8


def test_ngrams_do_not_reach_from_one_document_into_the_next() -> None:
    item = [f"w{n}" for n in range(13)]
    index = EvaluationIndex([("exam:1", " ".join(item))])
    assert find(index, [" ".join(item[:6]), " ".join(item[6:])]) == []
    assert [one.document for one in find(index, ["", " ".join(item), ""])] == [1]


def test_equal_hashes_of_other_words_are_no_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [("exam:1", " ".join(f"a{n}" for n in range(13)))]
    texts = [" ".join(f"b{n}" for n in range(13)), items[0][1]]
    monkeypatch.setattr(contamination, "ngrams", lambda hashes, length: hashes[: max(0, len(hashes) - length + 1)] * 0)
    index = EvaluationIndex(items)
    assert [one.document for one in find(index, texts)] == [1]


def test_wording_that_many_items_share_is_no_overlap_and_items_of_nothing_else_are_counted() -> None:
    task = "choose which of the two sentences below is the better end of the story"
    items = [(f"exam:{n}", f"{task} {' '.join(f'q{n}x{k}' for k in range(13))}") for n in range(11)]
    index = EvaluationIndex([*items, ("exam:11", task)])
    assert index.unchecked == 1
    assert find(index, [task + " whatever else"]) == []
    assert [one.item for one in find(index, [items[4][1]])] == ["exam:4"]
    few = EvaluationIndex(items[:10])
    assert len(find(few, [task])) == 10


def test_the_same_ngram_names_every_item_that_holds_it() -> None:
    passage = " ".join(f"w{n}" for n in range(20))
    index = EvaluationIndex([("exam:1", passage + " who"), ("exam:2", passage + " where"), ("other:1", "x " * 20)])
    assert [one.item for one in find(index, [passage])] == ["exam:1", "exam:2"]


def test_indices_have_equal_digests_for_equal_items_alone() -> None:
    items = [("a", "one two"), ("b", "three")]
    digests = {
        EvaluationIndex(items).digest,
        EvaluationIndex(items[:1]).digest,
        EvaluationIndex([("a", "one two"), ("b", "Three")]).digest,
        EvaluationIndex(items, words=12).digest,
    }
    assert len(digests) == 4 and EvaluationIndex(iter(items)).digest in digests


def test_nothing_to_look_for_finds_nothing() -> None:
    index = EvaluationIndex([])
    assert (len(index), index.unchecked) == (0, 0)
    assert find(index, ["water " * 20, ""]) == []


REAL = Path(__file__).parents[5] / "shared" / "data"


@pytest.mark.skipif(not REAL.exists(), reason="no real data on this machine")
def test_a_real_item_is_found_in_a_real_document_and_no_other(tmp_path: Path) -> None:
    files = {"hellaswag": REAL / "eval/hellaswag/hellaswag_val.jsonl", "piqa": REAL / "eval/piqa/valid.jsonl"}
    gather_corpus(CorpusConfig(files={name: str(path) for name, path in files.items()}), tmp_path / "corpus")
    items = list(evaluation_items(tmp_path / "corpus"))
    assert len(items) == 1300
    index = EvaluationIndex(items)
    assert index.unchecked < 13
    record = json.loads(files["hellaswag"].read_text().splitlines()[41])
    prose = (REAL / "pretrain/tinyshakespeare").glob("*.txt")
    play = next(prose).read_text()[:200_000]
    quoted = play[:100_000] + f"\n«{record['ctx'].upper()} {record['endings'][0]}»\n" + play[100_000:]
    assert find(index, [play]) == []
    assert "hellaswag:42" in {one.item for one in find(index, [quoted])}
