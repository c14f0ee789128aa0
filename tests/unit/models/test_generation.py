"""Generation against recomputing every token from scratch, and sampling against plain Python."""

import math
import random
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import ConfigError
from headrace.models.generation import Decoding, choose, distribution, generate, stream
from headrace.models.gptj import GPTJ, GPTJConfig
from headrace.models.masks import causal, prefix_lm

SMALL = GPTJConfig(vocab_size=61, n_layer=3, d_model=48, n_head=3, d_ff=80, rotary_dim=6, context_tokens=32)


@pytest.fixture(scope="module")
def model() -> GPTJ:
    torch.manual_seed(0)
    model = GPTJ(SMALL).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.copy_(2 * torch.randn_like(weight) / math.sqrt(weight.shape[-1]))
    return model


def random_prompts(lengths: list[int], seed: int = 1) -> list[list[int]]:
    draw = random.Random(seed)
    return [[draw.randrange(61) for _ in range(length)] for length in lengths]


@torch.no_grad()
def recomputed(model: GPTJ, prompt: list[int], mask: str, new: int) -> list[int]:
    """Greedy continuation without a cache: the whole row is read again for every token."""
    row = list(prompt)
    for _ in range(new):
        seen = prefix_lm([len(prompt)]) if mask == "prefix" else causal()
        row.append(int(model(torch.tensor([row]), seen)[0, -1].argmax()))
    return row[len(prompt) :]


@pytest.mark.parametrize("mask", ["causal", "prefix"])
def test_a_cached_batch_says_what_recomputing_each_row_alone_says(model: GPTJ, mask: Any) -> None:
    prompts = random_prompts([5, 1, 9, 3])
    assert generate(model, prompts, mask=mask, max_new_tokens=12) == [
        recomputed(model, prompt, mask, 12) for prompt in prompts
    ]


def test_a_prompt_seen_whole_is_continued_differently(model: GPTJ) -> None:
    prompts = random_prompts([8] * 4)
    both = [generate(model, prompts, mask=mask, max_new_tokens=8) for mask in ("causal", "prefix")]
    assert both[0] != both[1]


@pytest.mark.parametrize("mask", ["causal", "prefix"])
def test_rows_that_end_early_leave_the_others_as_they_were(model: GPTJ, mask: Any) -> None:
    prompts = random_prompts([5, 2, 9, 3, 7])
    whole = generate(model, prompts, mask=mask, max_new_tokens=10)
    ends = [3, 10, 1, 6, 6]
    ending = {tuple(said[:end]) for said, end in zip(whole, ends, strict=True) if end < 10}
    stopped = generate(model, prompts, mask=mask, max_new_tokens=10, stop=lambda said: tuple(said) in ending)
    assert stopped == [said[:end] for said, end in zip(whole, ends, strict=True)]


def test_a_stop_id_ends_a_row_and_is_left_out(model: GPTJ) -> None:
    prompts = random_prompts([5, 2, 9])
    whole = generate(model, prompts, mask="causal", max_new_tokens=10)
    stop_id = whole[1][4]
    expected = [said[: said.index(stop_id)] if stop_id in said else said for said in whole]
    assert generate(model, prompts, mask="causal", max_new_tokens=10, stop_ids=[stop_id]) == expected


@pytest.mark.parametrize("mask", ["causal", "prefix"])
def test_streaming_gives_the_tokens_of_generating(model: GPTJ, mask: Any) -> None:
    options = {"mask": mask, "max_new_tokens": 9, "temperature": 0.8, "top_k": 20, "seed": 3}
    (prompt,) = random_prompts([6])
    assert list(stream(model, prompt, **options)) == generate(model, [prompt], **options)[0]


def test_streaming_reads_no_further_than_it_is_asked(model: GPTJ) -> None:
    asked: list[int] = []
    tokens = stream(model, [1, 2], mask="causal", max_new_tokens=9, stop=lambda said: bool(asked.append(len(said))))
    next(tokens)
    next(tokens)
    assert asked == [1]


def test_a_prompt_too_long_for_its_continuation_loses_its_beginning(model: GPTJ) -> None:
    (prompt,) = random_prompts([50])
    for mask in ("causal", "prefix"):
        assert generate(model, [prompt], mask=mask, max_new_tokens=12) == generate(
            model, [prompt[-20:]], mask=mask, max_new_tokens=12
        )


def test_equal_seeds_say_the_same_and_others_something_else(model: GPTJ) -> None:
    prompts = random_prompts([4, 4])

    def said(seed: int) -> list[list[int]]:
        return generate(model, prompts, mask="causal", max_new_tokens=12, temperature=1.0, seed=seed)

    assert said(5) == said(5)
    assert said(5) != said(6)


def test_equal_prompts_in_one_batch_draw_for_themselves(model: GPTJ) -> None:
    first, second = generate(model, [[1, 2, 3]] * 2, mask="causal", max_new_tokens=12, temperature=2.0)
    assert first != second


def plain_distribution(logits: list[float], temperature: float, top_k: int, top_p: float) -> list[float]:
    """Temperature, then top-k, then nucleus, token by token."""
    weights = [math.exp((logit - max(logits)) / temperature) for logit in logits]
    ranked = sorted(range(len(logits)), key=lambda token: (-weights[token], token))
    ranked = ranked[: top_k or len(ranked)]
    total, kept, held = sum(weights[token] for token in ranked), [], 0.0
    for token in ranked:
        kept.append(token)
        held += weights[token] / total
        if held >= top_p and top_p < 1:
            break
    total = sum(weights[token] for token in kept)
    return [weights[token] / total if token in kept else 0.0 for token in range(len(logits))]


@settings(deadline=None)
@given(
    st.lists(st.integers(-40, 40), min_size=1, max_size=30, unique=True),
    st.sampled_from([0.3, 0.7, 1.0, 2.5]),
    st.integers(0, 12),
    st.sampled_from([0.1, 0.5, 0.9, 0.99, 1.0]),
)
def test_probabilities_are_those_of_a_plain_python_version(
    tenths: list[int], temperature: float, top_k: int, top_p: float
) -> None:
    logits = [tenth / 10 for tenth in tenths]
    share = distribution(torch.tensor([logits, logits[::-1]], dtype=torch.float64), temperature, top_k, top_p)
    assert share[0].tolist() == pytest.approx(plain_distribution(logits, temperature, top_k, top_p), abs=1e-9)
    assert share[1].tolist() == pytest.approx(plain_distribution(logits[::-1], temperature, top_k, top_p), abs=1e-9)


def test_tokens_are_drawn_as_often_as_their_probability_says() -> None:
    logits_BV = torch.tensor([[0.0, 1.0, -torch.inf, 2.0, 0.5]])
    decoding = Decoding(mask="causal", max_new_tokens=1, temperature=1.0)
    draw, draws = random.Random(0), 8000
    counts = Counter(choose(logits_BV, decoding, [draw])[0] for _ in range(draws))
    expected = plain_distribution([0.0, 1.0, -1e9, 2.0, 0.5], 1.0, 0, 1.0)
    for token, share in enumerate(expected):
        assert counts[token] / draws == pytest.approx(share, abs=4 * math.sqrt(0.25 / draws))
    assert counts[2] == 0


def test_no_draw_meets_a_token_without_probability() -> None:
    class Extreme(random.Random):
        def __init__(self, value: int) -> None:
            self.value = value

        def getrandbits(self, k: int) -> int:
            return self.value

    logits_BV = torch.tensor([[-torch.inf, 0.1, 0.2, 0.3, -torch.inf]])
    decoding = Decoding(mask="causal", max_new_tokens=1, temperature=0.7)
    assert choose(logits_BV, decoding, [Extreme(0)]) == [1]
    assert choose(logits_BV, decoding, [Extreme(2**32 - 1)]) == [3]


def test_no_prompts_are_no_continuations(model: GPTJ) -> None:
    assert generate(model, [], mask="causal", max_new_tokens=3) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": "prefx"}, "mask='prefx' is not a choice. Did you mean 'prefix'"),
        ({"max_new_tokens": 0}, "max_new_tokens=0 asks for nothing"),
        ({"max_new_tokens": 32}, "leaves no room for a prompt in the model's context of 32"),
        ({"temperature": -0.1}, "temperature=-0.1"),
        ({"temperature": math.nan}, "temperature=nan"),
        ({"top_k": -1}, "top_k=-1 is negative"),
        ({"top_p": 0.0}, r"top_p=0\.0"),
        ({"top_p": 1.1}, r"top_p=1\.1"),
        ({"prompts": [[1], []]}, "Prompt 1 of 2 has no tokens"),
    ],
)
def test_what_cannot_be_decoded_is_refused_before_the_first_token(
    model: GPTJ, changes: dict[str, Any], message: str
) -> None:
    options: dict[str, Any] = {"prompts": [[1]], "mask": "causal", "max_new_tokens": 3} | changes
    with pytest.raises(ConfigError, match=message):
        generate(model, **options)
    prompt = options.pop("prompts")[-1]
    with pytest.raises(ConfigError):
        stream(model, prompt, **options)
