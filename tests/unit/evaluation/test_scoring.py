"""Scores of many pairs at once against one pair at a time, in float64 and by hand."""

import copy
import math
import random
from typing import Any

import pytest
import torch
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from headrace.errors import TrainingError
from headrace.evaluation import scoring
from headrace.evaluation.scoring import Pair, cut, score_pairs
from headrace.models.gptj import GPTJ
from headrace.models.masks import prefix_lm


def random_ids(draw: random.Random, length: int) -> list[int]:
    return [draw.randrange(400) for _ in range(length)]


def random_pairs(count: int, seed: int = 0) -> list[Pair]:
    """Pairs of all lengths, some of which share their context and some of which are one token long."""
    draw = random.Random(seed)
    contexts = [random_ids(draw, draw.randint(1, 30)) for _ in range(count // 2)]
    return [Pair(draw.choice(contexts), random_ids(draw, draw.choice([1, 2, 5, 9]))) for _ in range(count)]


@torch.no_grad()
def by_hand(model: GPTJ, pair: Pair, mask: str) -> tuple[float, bool]:
    """One token at a time: each is scored by a row that ends right before it and so cannot hold it."""
    total, greedy = 0.0, True
    for n, token in enumerate(pair.continuation):
        row = torch.tensor([[*pair.context, *pair.continuation[:n]]])
        logits_V = model(row, prefix_lm([len(pair.context)]) if mask == "prefix" else None)[0, -1].double()
        total += float(logits_V.log_softmax(0)[token])
        greedy = greedy and int(logits_V.argmax()) == token
    return total, greedy


@pytest.mark.parametrize("mask", ["causal", "prefix"])
def test_pairs_scored_together_score_as_each_does_token_by_token(model: GPTJ, mask: Any) -> None:
    pairs = random_pairs(40)
    scores = score_pairs(model, pairs, mask=mask, max_batch_tokens=200)
    for pair, score in zip(pairs, scores, strict=True):
        total, greedy = by_hand(model, pair, mask)
        assert score.loglikelihood == pytest.approx(total, abs=1e-4)
        assert score.greedy == greedy


@pytest.mark.parametrize("mask", ["causal", "prefix"])
def test_what_the_model_would_say_is_greedy_and_nothing_else_is(model: GPTJ, mask: Any) -> None:
    from headrace.models.generation import generate

    prompt = random_ids(random.Random(3), 12)
    said = generate(model, [prompt], mask=mask, max_new_tokens=5)[0]
    changed = [*said[:4], (said[4] + 1) % 400]
    alone = score_pairs(model, [Pair(prompt, said)], mask=mask)
    both = score_pairs(model, [Pair(prompt, changed), Pair(prompt, said)], mask=mask)
    assert [score.greedy for score in (*alone, *both)] == [True, False, True]


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize("at_once", [1, 400], ids=["each alone", "sharing a context"])
def test_no_later_target_token_leaks_into_the_score_of_an_earlier_one(model: GPTJ, mask: Any, at_once: int) -> None:
    """Were the last token seen by those before it, the targets' probabilities would not sum over it."""
    draw = random.Random(5)
    context, target = random_ids(draw, 9), random_ids(draw, 4)
    pairs = [Pair(context, [*target, last]) for last in range(400)]
    parts = [pairs[start : start + at_once] for start in range(0, 400, at_once)]
    whole = [score.loglikelihood for part in parts for score in score_pairs(model, part, mask=mask)]
    before, _ = by_hand(model, Pair(context, target), mask)
    assert math.log(math.fsum(map(math.exp, whole))) == pytest.approx(before, abs=1e-4)


@pytest.mark.parametrize("mask", ["causal", "prefix"])
def test_shuffling_the_end_of_a_target_leaves_its_beginning_alone(model: GPTJ, mask: Any) -> None:
    """What the end adds to the score of the beginning is what it scores after it, in either order."""
    draw = random.Random(6)
    context, target = random_ids(draw, 9), random_ids(draw, 12)
    shuffled = draw.sample(target[4:], 8)
    for end in (target[4:], shuffled):
        whole = score_pairs(model, [Pair(context, [*target[:4], *end])], mask=mask)[0].loglikelihood
        pairs = [Pair(context, [*target[:4], *end[:n]]) for n in range(9)]
        steps = [by_hand(model, pairs[n + 1], mask)[0] - by_hand(model, pairs[n], mask)[0] for n in range(8)]
        assert whole - sum(steps) == pytest.approx(by_hand(model, pairs[0], mask)[0], abs=1e-4)


def test_the_mask_decides_what_a_longer_context_is_worth(model: GPTJ) -> None:
    pairs = [pair for pair in random_pairs(12, seed=8) if len(pair.context) > 2]
    causal, prefix = (score_pairs(model, pairs, mask=mask) for mask in ("causal", "prefix"))
    assert min(abs(a.loglikelihood - b.loglikelihood) for a, b in zip(causal, prefix, strict=True)) > 1e-3


@pytest.mark.parametrize("max_batch_tokens", [1, 50, 10_000])
def test_scores_do_not_depend_on_the_size_of_batches_or_the_order_of_pairs(model: GPTJ, max_batch_tokens: int) -> None:
    pairs = random_pairs(25, seed=2)
    expected = score_pairs(model, pairs, mask="prefix")
    order = list(range(25))
    random.Random(1).shuffle(order)
    shuffled = score_pairs(model, [pairs[i] for i in order], mask="prefix", max_batch_tokens=max_batch_tokens)
    for place, index in enumerate(order):
        assert shuffled[place].loglikelihood == pytest.approx(expected[index].loglikelihood, abs=1e-4)


def test_logits_taken_in_slices_give_the_same_scores(model: GPTJ, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = random_pairs(20, seed=4)
    whole = score_pairs(model, pairs)
    held, project = [], scoring._project
    monkeypatch.setattr(scoring, "LOGITS_AT_ONCE", 3 * model.config.vocab_size)
    monkeypatch.setattr(scoring, "_project", lambda m, x, room: held.append(len(room)) or project(m, x, room))
    sliced = score_pairs(model, pairs)
    assert set(held) == {3}
    assert [s.loglikelihood for s in sliced] == pytest.approx([s.loglikelihood for s in whole], abs=1e-5)


def test_rows_that_fill_the_context_are_scored_beside_others_that_share_theirs(model: GPTJ) -> None:
    """Longest context and longest continuation of a batch together exceed the model, though no row does."""
    draw = random.Random(6)
    long, short = random_ids(draw, 60), random_ids(draw, 5)
    pairs = [Pair(context, random_ids(draw, new)) for context, new in [(long, 4), (long, 5), (short, 59), (short, 60)]]
    for pair, score in zip(pairs, score_pairs(model, pairs, max_batch_tokens=10**6), strict=True):
        assert score.loglikelihood == pytest.approx(by_hand(model, pair, "causal")[0], abs=1e-4)


def test_a_context_is_read_once_for_all_its_continuations(model: GPTJ, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(9)
    context, endings = random_ids(draw, 20), [random_ids(draw, n) for n in (1, 4, 7)]
    read, projected = [], []
    embed, project = model.embedding.forward, scoring._project
    monkeypatch.setattr(model.embedding, "forward", lambda ids: read.append(ids.numel()) or embed(ids))
    monkeypatch.setattr(
        scoring, "_project", lambda m, states, room: projected.append(len(states)) or project(m, states, room)
    )
    score_pairs(model, [Pair(context, ending) for ending in endings])
    assert (read, projected) == ([20 + 0 + 3 + 6], [1 + 0 + 3 + 6])


@pytest.mark.parametrize("length", [1, 2, 9, 10, 11, 19, 20, 21, 57])
def test_windows_are_those_of_the_harness(length: int) -> None:
    ids = random_ids(random.Random(length), length)
    theirs = [make_disjoint_window(w) for w in get_rolling_token_windows(ids, 7, 10, 1)]
    assert [(list(pair.context), list(pair.continuation)) for pair in cut([7, *ids], 1, 10)] == theirs


def test_a_model_that_has_diverged_is_not_scored(model: GPTJ) -> None:
    broken = copy.deepcopy(model)
    broken.head.bias.data[0] = float("nan")
    with pytest.raises(TrainingError, match="not finite"):
        score_pairs(broken, random_pairs(3))


def test_texts_with_next_to_nothing_in_common_have_rows_of_their_own() -> None:
    texts = [Pair([0], list(range(1, 9))) for _ in range(50)]
    assert [len(row.read) for row in scoring._rows(texts, 32)] == [8] * 50
    choices = [Pair(list(range(10)), [1, 2, 3, number]) for number in range(12)]
    assert [len(row.continuations) for row in scoring._rows(choices, 32)] == [7, 5]
    assert all(len(row.read) <= 32 for row in scoring._rows(choices, 32))
