import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.data.packing import Examples, best_fit, concatenate_examples, pack_examples, pack_stream

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


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 60), context=st.integers(1, 40))
def test_every_example_is_whole_in_one_row_and_nothing_else_is_there(seed: int, count: int, context: int) -> None:
    examples, pairs = random_examples(seed, count, context)
    batch = pack_examples(examples, context)
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


def test_rows_are_nearly_as_few_as_can_be() -> None:
    examples, _ = random_examples(0, 2000, 60)
    rows = len(pack_examples(examples, 256).tokens_BT)
    assert rows <= 1.01 * np.ceil((examples.lengths_N - 1).sum() / 256) + 1


def best_fit_plainly(lengths: list[int], capacity: int) -> dict[int, tuple[int, int, int]]:
    rows: list[list[int]] = []
    placed = {}
    for example in sorted(range(len(lengths)), key=lambda example: -lengths[example]):
        room = [capacity - sum(row) for row in rows]
        fitting = [row for row in range(len(rows)) if room[row] >= lengths[example]]
        if not fitting:
            rows.append([])
            fitting, room = [len(rows) - 1], [*room, capacity]
        row = min(fitting, key=lambda row: (room[row], row))
        placed[example] = (row, sum(rows[row]), len(rows[row]) + 1)
        rows[row].append(lengths[example])
    return placed


@pytest.mark.parametrize("seed", range(6))
def test_best_fit_takes_the_fullest_row_that_holds_the_example(seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 33, 80)
    rows, starts, segments = best_fit(lengths, 32)
    wanted = best_fit_plainly(lengths.tolist(), 32)
    assert [wanted[n] for n in range(80)] == list(zip(rows.tolist(), starts.tolist(), segments.tolist(), strict=True))


def test_nothing_to_pack_gives_no_rows() -> None:
    none = np.zeros(0, np.int64)
    assert pack_examples(Examples(none, none, none), 16).tokens_BT.shape == (0, 16)


def test_examples_of_two_batches_stay_what_they_were() -> None:
    (first, pairs), (second, others) = random_examples(1, 3, 9), random_examples(2, 4, 9)
    both = concatenate_examples(first, second)
    pieces = np.split(both.tokens_S, np.cumsum(both.lengths_N)[:-1])
    cut = [(piece[:n].tolist(), piece[n:].tolist()) for piece, n in zip(pieces, both.inputs_N, strict=True)]
    assert cut == [*pairs, *others]


@pytest.mark.parametrize("seed", range(4))
def test_a_stream_predicts_each_token_from_its_own_document(seed: int) -> None:
    random = np.random.default_rng(seed)
    documents = [[*random.integers(1, 99, length).tolist(), EOS] for length in random.integers(1, 30, 40)]
    stream = [(number, place) for number, document in enumerate(documents) for place in range(len(document))]
    stream = stream[5 : 5 + len(stream) // 16 * 16 - 16]
    lengths = [sum(number == wanted for number, _ in stream) for wanted in range(len(documents))]
    first, place = stream[0]
    before = documents[first][place - 1] if place else EOS
    tokens = np.array([documents[number][place] for number, place in stream], np.uint16)
    batch = pack_stream(tokens, np.array([n for n in lengths if n]), before, 16)
    for position, (number, place) in enumerate(stream):
        row, column = divmod(position, 16)
        assert batch.labels_BT[row, column] == documents[number][place]
        assert batch.tokens_BT[row, column] == (documents[number][place - 1] if place else EOS)
        assert batch.segments_BT[row, column] == 1 + number - stream[row * 16][0]
    assert not batch.prefix_BT.any()
