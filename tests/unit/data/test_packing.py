import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.data.batch import Batch
from headrace.data.packing import (
    Examples,
    best_fit,
    interleave,
    lay_examples,
    lay_stream,
    pack_examples,
    pack_stream,
)

EOS = 0


def random_examples(seed: int, count: int, longest: int) -> tuple[Examples, list[tuple[list[int], list[int]]]]:
    """Examples, and the same as lists of inputs and targets; no token occurs twice."""
    random = np.random.default_rng(seed)
    lengths = random.integers(2, longest + 2, count)
    inputs = 1 + (random.random(count) * (lengths - 1)).astype(np.int64)
    tokens = 1 + np.arange(lengths.sum())
    pieces = np.split(tokens, np.cumsum(lengths)[:-1])
    pairs = [(piece[:cut].tolist(), piece[cut:].tolist()) for piece, cut in zip(pieces, inputs, strict=True)]
    return Examples(tokens, lengths, inputs), pairs


def packed(pairs: list[tuple[list[int], list[int]]], context: int) -> Batch:
    """All examples, in as many rows as best fit needs."""
    lengths = np.array([len(inputs) + len(targets) for inputs, targets in pairs])
    rows, segments = best_fit(lengths - 1, context)
    order = np.lexsort((segments, rows))
    sorted_pairs = [pairs[n] for n in order]
    tokens = np.array([token for pair in sorted_pairs for part in pair for token in part])
    examples = Examples(tokens, lengths[order], np.array([len(inputs) for inputs, _ in sorted_pairs]))
    return lay_examples(examples, segments[order], rows[order], (int(rows.max()) + 1, context))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 60), context=st.integers(1, 40))
def test_every_example_is_whole_in_one_row_and_nothing_else_is_there(seed: int, count: int, context: int) -> None:
    _, pairs = random_examples(seed, count, context)
    batch = packed(pairs, context)
    found = []
    for tokens, labels, segments, prefix in zip(
        batch.tokens_BT.tolist(),
        batch.labels_BT.tolist(),
        batch.segments_BT.tolist(),
        batch.prefix_BT.tolist(),
        strict=True,
    ):
        for segment in range(1, max(segments) + 1):
            places = [t for t in range(context) if segments[t] == segment]
            assert places == list(range(places[0], places[-1] + 1)), "a segment is in one piece"
            inputs = [tokens[t] for t in places if prefix[t]]
            answers = [(t, labels[t]) for t in places if labels[t] != -100]
            first = places[0] + len(inputs) - 1
            assert [t for t, _ in answers] == list(range(first, places[-1] + 1)), "scored from the last input on"
            targets = [label for _, label in answers]
            assert [tokens[t] for t in places] == [*inputs, *targets[:-1]], "read shifted by one"
            found.append((inputs, targets))
        padding = [t for t in range(context) if segments[t] == 0]
        assert all(tokens[t] == 0 and labels[t] == -100 and not prefix[t] for t in padding)
    assert sorted(found) == sorted(pairs)


def test_tokens_of_two_bytes_do_not_wrap_the_labels_left_out() -> None:
    examples = Examples(np.array([7, 8, 9], np.uint16), np.array([3]), np.array([2]))
    batch = lay_examples(examples, np.array([1]), np.array([0]), (1, 4))
    assert batch.labels_BT.tolist() == [[-100, 9, -100, -100]] and batch.tokens_BT.tolist() == [[7, 8, 0, 0]]


@pytest.mark.parametrize("seed", range(4))
def test_rows_of_realistic_examples_are_99_percent_full(seed: int) -> None:
    random = np.random.default_rng(seed)
    lengths = np.clip(random.lognormal(4.9, 1.1, 9000), 2, 2048).astype(np.int64)
    rows, _ = pack_examples(lengths, 2048, 256)
    assert len(set(rows.tolist())) == 256 == rows.max() + 1
    assert lengths[: len(rows)].sum() >= 0.998 * 256 * 2048


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 20), min_size=60, max_size=90), rows=st.integers(1, 6))
def test_a_window_takes_the_first_examples_that_its_rows_hold(lengths: list[int], rows: int) -> None:
    placed, segments = pack_examples(np.array(lengths), 20, rows)
    assert 1 <= len(placed) < len(lengths)
    used = np.bincount(placed, lengths[: len(placed)])
    assert len(used) <= rows and used.max() <= 20
    for row in range(len(used)):
        assert sorted(segments[placed == row].tolist()) == list(range(1, 1 + np.count_nonzero(placed == row)))


def best_fit_plainly(lengths: list[int], capacity: int) -> dict[int, tuple[int, int]]:
    left = list(range(len(lengths)))
    placed: dict[int, tuple[int, int]] = {}
    row = 0
    while left:
        room, number = capacity, 0
        while fitting := [example for example in left if lengths[example] <= room]:
            longest = max(lengths[example] for example in fitting)
            chosen = [next(example for example in fitting if lengths[example] == longest)]
            pairs = [
                # The fullest; of equals that with the shortest example; of equal examples the first.
                (-lengths[a] - lengths[b], lengths[b], a, b)
                for a in fitting
                for b in fitting
                if a != b and lengths[a] >= lengths[b] and longest < lengths[a] + lengths[b] <= room
            ]
            if room <= 2 * longest and pairs:
                _, _, *chosen = min(pairs)
            for example in chosen:
                placed[example] = (row, number := number + 1)
                room -= lengths[example]
                left.remove(example)
        row += 1
    return placed


@pytest.mark.parametrize("capacity", [12, 32, 60])
@pytest.mark.parametrize("seed", range(6))
def test_rows_are_closed_with_what_leaves_the_least_room(seed: int, capacity: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, min(capacity, 7 * (seed + 1)) + 1, 70)
    rows, segments = best_fit(lengths, capacity)
    wanted = best_fit_plainly(lengths.tolist(), capacity)
    assert [wanted[n] for n in range(70)] == list(zip(rows.tolist(), segments.tolist(), strict=True))


def test_rows_are_full_also_where_no_example_is_short() -> None:
    lengths = np.random.default_rng(0).normal(180, 40, 4000).clip(97, 400).astype(np.int64)
    rows, _ = pack_examples(lengths, 2048, 256)
    assert lengths[: len(rows)].sum() >= 0.995 * 256 * 2048


def test_interleaved_examples_stay_what_they_were() -> None:
    (first, pairs), (second, others) = random_examples(1, 3, 9), random_examples(2, 4, 9)
    both = interleave(first, second, np.array([True, False, True, True, False, False, True]))
    pieces = np.split(both.tokens_S, np.cumsum(both.lengths_N)[:-1])
    cut = [(piece[:n].tolist(), piece[n:].tolist()) for piece, n in zip(pieces, both.inputs_N, strict=True)]
    assert cut == [others[0], pairs[0], others[1], others[2], pairs[1], pairs[2], others[3]]


@pytest.mark.parametrize("seed", range(4))
def test_a_stream_predicts_each_token_from_its_own_document(seed: int) -> None:
    random = np.random.default_rng(seed)
    documents = [[*random.integers(1, 99, length).tolist(), EOS] for length in random.integers(1, 30, 40)]
    stream = [(number, place) for number, document in enumerate(documents) for place in range(len(document))]
    stream = stream[5 : 5 + len(stream) // 16 * 16 - 16]
    # Parts as they are cut: at the ends of documents and of rows.
    starts = [n for n, (_, place) in enumerate(stream) if n % 16 == 0 or place == 0]
    lengths = np.diff([*starts, len(stream)])
    befores = [documents[number][place - 1] if place else EOS for number, place in (stream[n] for n in starts)]
    tokens = np.array([documents[number][place] for number, place in stream], np.uint16)
    rows, segments = pack_stream(lengths, 16, len(stream) // 16)
    assert rows.tolist() == [n // 16 for n in starts]
    batch = lay_stream(tokens, np.array(starts), np.array(befores), segments).reshape(len(stream) // 16, 16)
    for position, (number, place) in enumerate(stream):
        row, column = divmod(position, 16)
        assert batch.labels_BT[row, column] == documents[number][place]
        assert batch.tokens_BT[row, column] == (documents[number][place - 1] if place else EOS)
        assert batch.segments_BT[row, column] == 1 + number - stream[row * 16][0]
    assert not batch.prefix_BT.any()
