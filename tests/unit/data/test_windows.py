import itertools
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from headrace.data.batch import UNSCORED, Batch
from headrace.data.objectives import Cut, ObjectiveName, objective_of
from headrace.data.reading import Place
from headrace.data.shard_files import OpenShards
from headrace.data.tokenizer import TextTokenizer
from headrace.data.vocabulary import SpecialTokens
from headrace.data.windows import Source, Window

MakeShards = Callable[..., OpenShards]
CONTEXT = 64
LENGTHS = [1, 2, 5, 9, 30, 63, 64, 65, 70, 130, 400, 1000, 3, 17, 64, 71]


@pytest.fixture
def texts(shards_of: MakeShards) -> OpenShards:
    """Documents of many lengths in which `#3 #4 #5` says which document and where."""
    lines = [{"text": "".join(f"{n:02d}{place:04d}." for place in range(words))} for n, words in enumerate(LENGTHS)]
    return shards_of(lines, "texts")


@pytest.fixture
def answers(shards_of: MakeShards) -> OpenShards:
    sizes = [(3, 1), (10, 2), (1, 1), (20, 8), (5, 3), (2, 40), (90, 2), (2, 90), (90, 90), (63, 1)]
    return shards_of(
        [{"prompt": f"{n}:" + "ab" * size, "target": "xy" * answer} for n, (size, answer) in enumerate(sizes)],
        "answers",
    )


def source_of(
    shards: OpenShards, objective: ObjectiveName, *, rows: int = 8, seed: int = 0, cut: Cut = "prompt"
) -> Source:
    made = objective_of(objective, shards, CONTEXT, (seed, 7), special_of(shards), cut=cut)
    return Source(shards, made, (seed, 7), rows)


def special_of(shards: OpenShards) -> SpecialTokens:
    return SpecialTokens(shards.vocabulary, shards.vocabulary + 143)


def rows_of(window: Window) -> Batch:
    return window.read(np.arange(len(window)))


def windows(source: Source, epochs: int) -> Iterator[Window]:
    """Windows from the start until the given epoch begins; the last reaches into it."""
    place = Place()
    while place.epoch < epochs:
        window = source.window(place)
        yield window
        place = window.after


def segments(batch: Batch) -> Iterator[tuple[list[int], list[int], list[int]]]:
    """Tokens, labels and prefix flags of every segment of every row."""
    for row in range(len(batch.tokens_BT)):
        for segment in range(1, int(batch.segments_BT[row].max()) + 1):
            mine = batch.segments_BT[row] == segment
            yield tuple(a[row][mine].tolist() for a in (batch.tokens_BT, batch.labels_BT, batch.prefix_BT))  # type: ignore[misc]


def examples(batch: Batch) -> list[tuple[list[int], list[int]]]:
    """Inputs and targets of every segment."""
    return [
        ([token for token, prefix in zip(tokens, prefixes, strict=True) if prefix], [n for n in labels if n >= 0])
        for tokens, labels, prefixes in segments(batch)
    ]


def documents_of(shards: OpenShards) -> Counter[tuple[int, ...]]:
    return Counter(tuple(shards.document(n).tolist()) for n in range(len(shards)))


def test_text_windows_give_every_token_once_an_epoch(texts: OpenShards) -> None:
    labels = Counter[int]()
    total = 0
    for window in windows(source_of(texts, "causal"), 2):
        labels.update(rows_of(window).labels_BT.ravel().tolist())
        total += rows_of(window).labels_BT.size
        assert (rows_of(window).segments_BT > 0).all() and (rows_of(window).labels_BT != UNSCORED).all()
    every = Counter(token for document in documents_of(texts) for token in document)
    more = total - 2 * texts.tokens
    assert 0 <= more < 8 * CONTEXT, "the last window reaches into the third epoch"
    assert (labels - Counter({token: 2 * count for token, count in every.items()})).total() == more


def test_text_rows_hold_consecutive_parts_of_documents(texts: OpenShards) -> None:
    whole = list(documents_of(texts))
    for window in windows(source_of(texts, "causal"), 1):
        for tokens, labels, _ in segments(rows_of(window)):
            part = [tokens[0], *labels]
            starts = [[texts.eos_id, *document] for document in whole]
            assert any(part == d[at : at + len(part)] for d in starts for at in range(len(d) - len(part) + 1))


def filled_in(inputs: list[int], targets: list[int], sentinels: range) -> list[int]:
    """The text whose spans were replaced by sentinels, or whose end was."""
    spans: list[list[int]] = [[]]
    for token in targets:
        spans = [*spans, []] if token in sentinels else [*spans[:-1], [*spans[-1], token]]
    return [
        part for token in inputs for part in (spans[1 + token - sentinels[0]] if token in sentinels else [token])
    ] + spans[0]


def pieces_of(source: Source, shards: OpenShards, window: Window, ul2: bool) -> list[tuple[int, ...]]:
    """The text of every example, without end-of-text."""
    special, texts = special_of(shards), []
    for inputs, targets in examples(rows_of(window)):
        if ul2:
            assert inputs[0] in {special.mode(mode) for mode in ("R", "S", "X")}
            inputs = inputs[1:]
        texts.append(filled_in(inputs, targets, special.sentinels))
    return [tuple(token for token in text if token != shards.eos_id) for text in texts]


@pytest.mark.parametrize("objective", ["ul2", "prefix"])
def test_pieces_are_parts_of_documents_and_together_all_of_them(texts: OpenShards, objective: ObjectiveName) -> None:
    source = source_of(texts, objective)
    bodies = [document[:-1] for document in documents_of(texts)]
    seen = Counter[int]()
    for window in windows(source, 1):
        assert window.skipped == 0
        for piece in pieces_of(source, texts, window, objective == "ul2"):
            seen.update(piece)
            parts = ((body, at) for body in bodies for at in range(len(body) - len(piece) + 1))
            assert any(body[at : at + len(piece)] == piece for body, at in parts)
    assert not Counter(token for body in bodies for token in body) - seen


@pytest.mark.parametrize("objective", ["ul2", "prefix"])
def test_documents_are_not_cut_into_crumbs(texts: OpenShards, objective: ObjectiveName) -> None:
    source = source_of(texts, objective)
    short = sum(len(document) < 8 for document in documents_of(texts))
    crumbs = [
        piece
        for window in windows(source, 3)
        for piece in pieces_of(source, texts, window, objective == "ul2")
        if len(piece) < 7
    ]
    assert len(crumbs) <= 4 * short, "only documents that are short themselves"


@pytest.mark.parametrize("objective", ["causal", "ul2", "prefix"])
def test_a_window_depends_on_where_it_begins_alone(texts: OpenShards, objective: ObjectiveName) -> None:
    one, other = source_of(texts, objective), source_of(texts, objective)
    places = [window.after for window in windows(one, 3)]
    for place in reversed(places):
        for first, second in zip(arrays(one.window(place)), arrays(other.window(place)), strict=True):
            np.testing.assert_array_equal(first, second)


def arrays(window: Window) -> tuple[np.ndarray, ...]:
    rows = rows_of(window)
    return rows.tokens_BT, rows.labels_BT, rows.segments_BT, rows.prefix_BT


def test_epochs_and_seeds_begin_with_documents_of_their_own(texts: OpenShards) -> None:
    def first(source: Source, epoch: int) -> list[int]:
        return sorted(rows_of(source.window(Place(epoch))).labels_BT.ravel().tolist())

    found = [first(source_of(texts, "causal", seed=seed, rows=2), epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(a != b for a, b in itertools.combinations(found, 2))


def test_epochs_and_seeds_denoise_the_same_text_differently(texts: OpenShards) -> None:
    sources = [source_of(texts, "ul2", rows=100, seed=seed) for seed in (0, 1)]
    rows = [rows_of(source.window(Place(epoch))) for source in sources for epoch in (0, 1)]
    inputs = [{tuple(shown) for shown, _ in examples(each)} for each in rows]
    assert all(len(a & b) < len(a) / 4 for a, b in itertools.combinations(inputs, 2))


def test_rows_are_not_in_the_order_of_their_packing(shards_of: MakeShards, tokenizer: TextTokenizer) -> None:
    lines = [{"prompt": "ab" * (1 + n % 25), "target": "x"} for n in range(200)]
    rows = rows_of(source_of(shards_of(lines), "instruction", rows=30).window(Place()))
    longest = [np.bincount(row)[1:].max() for row in rows.segments_BT]
    assert longest != sorted(longest, reverse=True)


def test_answers_survive_and_prompts_lose_their_beginning(answers: OpenShards) -> None:
    found = [
        example
        for window in windows(source_of(answers, "instruction", rows=1), 1)
        for example in examples(rows_of(window))
    ]
    cut = 0
    for number in range(len(answers)):
        document, prompt_tokens = answers.document(number).tolist(), answers.prompt_tokens(number)
        prompt, target = document[:prompt_tokens], document[prompt_tokens:][:CONTEXT]
        over = max(0, len(prompt) + len(target) - 1 - CONTEXT)
        cut += over > 0
        assert (prompt[over:], target) in found
    assert cut > 2


def test_cut_at_the_end_prompts_stay_whole_and_those_that_fill_a_row_are_skipped(answers: OpenShards) -> None:
    made = list(windows(source_of(answers, "instruction", rows=1, cut="end"), 1))
    found = [example for window in made for example in examples(rows_of(window))]
    assert found
    wanted, lost = [], 0
    for number in range(len(answers)):
        document, prompt_tokens = answers.document(number).tolist(), answers.prompt_tokens(number)
        kept = document[: CONTEXT + 1]
        if len(kept) > prompt_tokens:
            wanted.append((kept[:prompt_tokens], kept[prompt_tokens:]))
        else:
            lost += 1
    assert lost > 1
    assert all(example in wanted for example in found)
    assert all(example in found for example in wanted)
    epochs = made[-1].after.epoch
    assert lost <= sum(window.skipped for window in made) <= lost * (epochs + 1)
    assert sum(window.cut for window in made) > 0


def test_windows_of_a_tiny_source_go_round_it(shards_of: MakeShards) -> None:
    source = source_of(shards_of([{"prompt": "ab", "target": "cd"}]), "instruction")
    window = source.window(Place())
    assert window.after.epoch > 10
    assert len(set(map(str, examples(rows_of(window))))) == 1
    assert (rows_of(window).segments_BT > 0).mean() > 0.9
