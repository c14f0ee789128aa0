"""The harness's view of a model, against the harness's own model class on the same weights."""

import random
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from headrace.data.tokenizer import TextTokenizer
from headrace.errors import ConfigError, DataError
from headrace.evaluation.lm import HeadraceLM
from headrace.models.gptj import GPTJ
from headrace.models.masks import prefix_lm

WORDS = ["the", "river", "carries", "water", "to", "a", "wheel", "roof", "café", "Zürich", "\U0001f600", "krone"]


def requests(kind: Any, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=args, idx=n) for n, args in enumerate(arguments)]


def random_text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(words))


def random_questions(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Contexts of many lengths, empty, ending in whitespace or too long for the model, and shared ones."""
    draw = random.Random(seed)
    contexts = [random_text(draw, draw.choice([0, 1, 3, 8, 60])) + draw.choice(["", " ", "\n "]) for _ in range(count)]
    return [(context.lstrip(), f" {random_text(draw, n)}") for context in contexts for n in (1, 2, 6)]


def test_causal_loglikelihoods_are_those_of_the_harness_own_model(
    model: GPTJ, tokenizer: TextTokenizer, theirs: Any
) -> None:
    asked = requests("loglikelihood", *random_questions(12))
    expected = theirs.loglikelihood(asked, disable_tqdm=True)
    lm = HeadraceLM(model, tokenizer)
    assert isinstance(lm, LM)
    for (nats, greedy), (their_nats, their_greedy) in zip(lm.loglikelihood(asked), expected, strict=True):
        assert nats == pytest.approx(their_nats, abs=1e-4)
        assert greedy == their_greedy
    assert lm.truncated_requests > 0  # the comparison has covered it


def test_rolling_loglikelihoods_are_those_of_the_harness_own_model_under_either_mask(
    model: GPTJ, tokenizer: TextTokenizer, theirs: Any
) -> None:
    draw = random.Random(2)
    asked = requests("loglikelihood_rolling", *[(random_text(draw, n),) for n in (1, 5, 30, 90)])
    expected = theirs.loglikelihood_rolling(asked, disable_tqdm=True)
    for mask in ("causal", "prefix"):
        assert HeadraceLM(model, tokenizer, mask).loglikelihood_rolling(asked) == pytest.approx(expected, abs=1e-3)


def test_an_empty_text_has_a_rolling_loglikelihood_of_zero(model: GPTJ, tokenizer: TextTokenizer) -> None:
    assert HeadraceLM(model, tokenizer).loglikelihood_rolling(requests("loglikelihood_rolling", ("",))) == [0]


def test_greedy_generation_is_that_of_the_harness_own_model(model: GPTJ, tokenizer: TextTokenizer, theirs: Any) -> None:
    draw = random.Random(4)
    first = theirs.generate_until(
        requests("generate_until", ("The river", {"until": [], "max_gen_toks": 12, "do_sample": False})),
        disable_tqdm=True,
    )
    stop = first[0][3:5]  # a stop string that occurs
    manners = [
        {"until": [stop], "max_gen_toks": 12, "do_sample": False},
        {"until": ["\n", "zz"], "max_gen_toks": 7, "temperature": 0.0},
    ]
    contexts = ["The river", *(random_text(draw, n) for n in (2, 2, 9, 40))]
    asked = requests("generate_until", *[(context, manner) for context in contexts for manner in manners])
    # One request at a time: transformers pads on the left without moving the positions of GPT-J.
    expected = [theirs.generate_until([request], disable_tqdm=True)[0] for request in asked]
    assert HeadraceLM(model, tokenizer).generate_until(asked) == expected
    assert expected[0] == first[0].split(stop)[0]


def test_sampling_follows_the_seed_and_leaves_the_greedy_path(model: GPTJ, tokenizer: TextTokenizer) -> None:
    asked = requests("generate_until", ("The wheel", {"until": [], "max_gen_toks": 20, "do_sample": True}))
    texts = [HeadraceLM(model, tokenizer, seed=seed).generate_until(asked)[0] for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


def test_the_context_is_a_prefix_seen_whole_and_the_continuation_is_not(model: GPTJ, tokenizer: TextTokenizer) -> None:
    context, continuation = "The river carries water", " to the wheel"
    head, tail = tokenizer.encode(context), tokenizer.encode(continuation)
    logits_TV = model(torch.tensor([head + tail]), prefix_lm([len(head)]))[0].log_softmax(-1).detach()
    expected = sum(float(logits_TV[len(head) - 1 + n, token]) for n, token in enumerate(tail))
    answers = HeadraceLM(model, tokenizer, "prefix").loglikelihood(requests("loglikelihood", (context, continuation)))
    assert answers[0][0] == pytest.approx(expected, abs=1e-4)


def test_whitespace_at_the_end_of_a_context_belongs_to_the_continuation(model: GPTJ, tokenizer: TextTokenizer) -> None:
    asked = requests("loglikelihood", ("The river ", "carries"), ("The river", " carries"), (" ", "carries"))
    moved, plain, blank = HeadraceLM(model, tokenizer).loglikelihood(asked)
    empty = HeadraceLM(model, tokenizer).loglikelihood(requests("loglikelihood", ("", " carries")))[0]
    assert moved == plain
    assert blank[0] == pytest.approx(empty[0], abs=1e-5)


def test_end_of_text_is_put_before_every_context_only_where_asked(model: GPTJ, tokenizer: TextTokenizer) -> None:
    plain = requests("loglikelihood", ("The river", " carries"))
    marked = requests("loglikelihood", ("<|endoftext|>The river", " carries"))
    with_eos = HeadraceLM(model, tokenizer, bos_eos=True)
    without = HeadraceLM(model, tokenizer)
    assert with_eos.loglikelihood(plain)[0] == pytest.approx(without.loglikelihood(marked)[0], abs=1e-5)
    assert abs(with_eos.loglikelihood(plain)[0][0] - without.loglikelihood(plain)[0][0]) > 1e-3
    both = [requests("generate_until", (r[0].args[0], {"max_gen_toks": 9})) for r in (plain, marked)]
    assert with_eos.generate_until(both[0]) == without.generate_until(both[1])


def test_what_is_cut_from_the_left_is_counted(model: GPTJ, tokenizer: TextTokenizer) -> None:
    long = "river water " * 60
    tokens = len(tokenizer.encode(long.rstrip()))
    lm = HeadraceLM(model, tokenizer)
    lm.loglikelihood(requests("loglikelihood", ("short", " one"), (long.rstrip(), " water")))
    scored = len(tokenizer.encode(" water"))
    assert (lm.truncated_requests, lm.truncated_tokens) == (1, tokens + scored - 1 - 64)
    lm.generate_until(requests("generate_until", (long.rstrip(), {"max_gen_toks": 10})))
    assert (lm.truncated_requests, lm.truncated_tokens) == (2, 2 * tokens + scored - 1 - 64 - 54)


def test_progress_is_reported_up_to_the_whole(model: GPTJ, tokenizer: TextTokenizer) -> None:
    shares: list[float] = []
    lm = HeadraceLM(model, tokenizer, max_batch_tokens=40, on_progress=shares.append)
    lm.loglikelihood(requests("loglikelihood", *random_questions(5)))
    assert shares == sorted(shares) and shares[-1] == 1 and len(shares) > 2


@pytest.mark.parametrize(
    ("kind", "arguments", "error", "words"),
    [
        ("loglikelihood", ("context", ""), DataError, ["context", "empty"]),
        ("loglikelihood", ("context", " water" * 80), DataError, ["exceeds", "64"]),
        ("generate_until", ("context", {"max_gen_toks": 64}), ConfigError, ["max_gen_toks=64", "64"]),
        ("generate_until", ("context", {"until": [], "num_beam": 3}), ConfigError, ["num_beam"]),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_line(
    model: GPTJ, tokenizer: TextTokenizer, kind: Any, arguments: Any, error: type[Exception], words: list[str]
) -> None:
    with pytest.raises(error) as caught:
        getattr(HeadraceLM(model, tokenizer), kind)(requests(kind, arguments))
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)
