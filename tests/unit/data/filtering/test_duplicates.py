import itertools
import random

import numpy as np
import pytest

from headrace.data.documents import Document
from headrace.data.filtering.duplicates import (
    EMPTY,
    bands,
    digest,
    first_equals,
    near_duplicates,
    shingles,
    sign_words,
)
from headrace.data.filtering.words import hash_words, ngrams, split_words

VOCABULARY = [f"word{n}" for n in range(3000)]


def plant(seed: int, families: int = 25) -> list[str]:
    """Random texts with copies in which a few words are others."""
    draw = random.Random(seed)
    texts = []
    for _ in range(families):
        words = draw.choices(VOCABULARY, k=draw.randint(60, 300))
        texts.append(" ".join(words))
        for share in draw.sample([0.0, 0.002, 0.01, 0.05, 0.2], k=draw.randint(0, 3)):
            changed = [draw.choice(VOCABULARY) if draw.random() < share else word for word in words]
            texts.append(" ".join(changed))
    draw.shuffle(texts)
    return texts


def shingle_set(text: str, length: int = 5) -> set[tuple[bytes, ...]]:
    words = split_words(text)
    if len(words) < length:
        return {tuple(words)} if words else set()
    return {tuple(words[at : at + length]) for at in range(len(words) - length + 1)}


def jaccard(one: str, two: str) -> float:
    a, b = shingle_set(one), shingle_set(two)
    return len(a & b) / len(a | b) if a | b else 0.0


def greedy(texts: list[str], threshold: float) -> set[int]:
    """Leave out what is like an earlier text that was kept, by exact similarities of all pairs."""
    kept: list[int] = []
    for number, text in enumerate(texts):
        if all(jaccard(texts[other], text) < threshold for other in kept):
            kept.append(number)
    return set(range(len(texts))) - set(kept)


def plain(text: str) -> Document:
    return Document(source="s", text=text)


def test_digests_tell_texts_apart_but_for_white_space_at_their_ends() -> None:
    assert digest(plain("water\n")) == digest(plain("  water"))
    different = [
        plain("water"),
        plain("Water"),
        plain("wa ter"),
        plain("water."),
        Document(source="s", prompt="wa", target="ter"),
        Document(source="s", prompt="w", target="ater"),
        Document(source="s", prompt="", target="water"),
    ]
    assert len({digest(document) for document in different}) == len(different)
    assert digest(Document(source="a", prompt="p ", target=" t")) == digest(
        Document(source="b", prompt="p", target="t")
    )
    assert len(digest(plain("half a pair: \ud800"))) == 16


@pytest.mark.parametrize("length", [1, 2, 5])
def test_shingles_are_the_ngrams_within_each_text_and_short_texts_are_whole(length: int) -> None:
    texts = ["", "a", "a b", "c d e f", "", "a b c d e", "a b c d e f g", "..."]
    values, counts = shingles(hash_words(texts), length)
    assert counts.tolist() == [len(shingle_set(text, length)) for text in texts]
    rows = np.split(values, np.cumsum(counts)[:-1])
    for text, row in zip(texts, rows, strict=True):
        alone = hash_words([text]).hashes_W
        assert row.tolist() == ngrams(alone, max(1, min(length, len(alone)))).tolist()


def test_signatures_estimate_exact_similarities() -> None:
    texts = plant(3)
    signatures = sign_words(hash_words(texts), 5, 512, 0)
    pairs = list(itertools.combinations(range(len(texts)), 2))
    estimates = np.array([(signatures[a] == signatures[b]).mean() for a, b in pairs])
    exact = np.array([jaccard(texts[a], texts[b]) for a, b in pairs])
    assert (exact > 0.5).sum() > 10
    assert np.abs(estimates - exact).max() < 5 * 0.5 / 512**0.5


@pytest.mark.parametrize("part_words", [1, 7, 60, 299])
def test_long_documents_are_signed_in_parts_alike(part_words: int, monkeypatch: pytest.MonkeyPatch) -> None:
    words = hash_words(["", *plant(2), "of three words"])
    whole = [sign_words(words, length, 64, 0) for length in (1, 5)]
    monkeypatch.setattr("headrace.data.filtering.duplicates.PART_WORDS", part_words)
    for length, expected in zip((1, 5), whole, strict=True):
        np.testing.assert_array_equal(sign_words(words, length, 64, 0), expected)


@pytest.mark.parametrize("seed", range(4))
def test_near_duplicates_are_those_of_exact_similarities_of_all_pairs(seed: int) -> None:
    texts = plant(seed)
    threshold = 0.7
    similarities = [jaccard(a, b) for a, b in itertools.combinations(texts, 2)]
    gap = min(abs(value - threshold) for value in similarities)
    found = near_duplicates(sign_words(hash_words(texts), 5, 1024, seed), threshold)
    if gap > 0.06:
        assert set(found) == greedy(texts, threshold)
    else:  # a pair so near the threshold may fall on either side of it
        assert greedy(texts, threshold + 0.06) <= set(found) | greedy(texts, threshold)
    for number, (like, similarity) in found.items():
        assert like < number and like not in found and similarity >= threshold
        assert abs(similarity - jaccard(texts[number], texts[like])) < 0.08


def test_decisions_on_signatures_equal_those_of_comparing_every_pair() -> None:
    draw = np.random.default_rng(0)
    rows = draw.integers(0, 1000, (30, 64), dtype=np.uint32)
    copies = rows[draw.integers(0, 30, 120)]
    copies = np.where(draw.random(copies.shape) < draw.choice([0, 0.05, 0.1, 0.4], (120, 1)), 7, copies)
    signatures = draw.permutation(np.concatenate([rows, copies.astype(np.uint32)]))
    kept: list[int] = []
    for number, row in enumerate(signatures):
        if all((signatures[other] == row).mean() < 0.75 for other in kept):
            kept.append(number)
    # `bands` may miss one pair in a hundred at the threshold itself, few above it
    found = near_duplicates(signatures, 0.75)
    assert len(set(range(150)) - set(kept) ^ set(found)) <= 1


def test_a_chain_keeps_its_far_end() -> None:
    base = np.arange(100, dtype=np.uint32)
    middle, end = base.copy(), base.copy()
    middle[:10], end[:20] = 1000, 1000
    found = near_duplicates(np.stack([base, middle, end]), 0.85)
    assert found == {1: (0, 0.9)}
    assert near_duplicates(np.stack([middle, base, end]), 0.85) == {1: (0, 0.9), 2: (0, 0.9)}


def test_texts_without_words_are_like_nothing() -> None:
    signatures = sign_words(hash_words(["", "...", "!?", "water", "Water."]), 5, 64, 0)
    assert (signatures[:3] == EMPTY).all()
    assert set(near_duplicates(signatures, 0.8)) == {4}
    assert near_duplicates(np.empty((0, 64), np.uint32), 0.8) == {}


@pytest.mark.parametrize("permutations", [1, 16, 100, 128, 256])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.95, 1.0])
def test_bands_fit_and_miss_little_at_the_threshold(permutations: int, threshold: float) -> None:
    count, rows = bands(permutations, threshold)
    assert count * rows <= permutations
    longer = permutations // (rows + 1)
    assert longer == 0 or (1 - threshold ** (rows + 1)) ** longer > 0.01
    assert rows == 1 or (1 - threshold**rows) ** count <= 0.01


def test_first_equals_names_the_first_of_each_digest() -> None:
    draw = np.random.default_rng(1)
    digests = draw.integers(0, 4, (200, 2)).astype(np.uint64)
    rows = [tuple(row) for row in digests.tolist()]
    assert first_equals(digests).tolist() == [rows.index(row) for row in rows]
    assert first_equals(np.empty((0, 2), np.uint64)).tolist() == []
