"""GPT-J against a plain reading of its published form in float64, and against what its masks promise."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headrace.config import decode, encode
from headrace.errors import ConfigError, MismatchError
from headrace.models.cache import KVCache
from headrace.models.gptj import GPTJ, GPTJConfig
from headrace.models.masks import causal, packed_causal, packed_prefix_lm, prefix_lm

SMALL = GPTJConfig(vocab_size=61, n_layer=3, d_model=48, n_head=3, d_ff=80, rotary_dim=6, context_tokens=32)


def random_model(config: GPTJConfig = SMALL, seed: int = 0) -> GPTJ:
    """Weights far from their gentle beginning, so that a wrong sum does not hide among small numbers."""
    torch.manual_seed(seed)
    model = GPTJ(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            scale = 0.1 if weight.dim() == 1 else 1.5 / math.sqrt(weight.shape[-1])
            weight.copy_(scale * torch.randn_like(weight) + (1 if name.endswith("norm.weight") else 0))
    return model


def random_tokens(rows: int, tokens: int, seed: int = 1) -> Tensor:
    return torch.randint(61, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def plain_logits(model: GPTJ, tokens_T: list[int], sees: Callable[[int, int], bool]) -> Tensor:
    """GPT-J as its paper's code states it, one head, one query and one pair at a time, in float64."""
    config = model.config
    weights = {name: weight.detach().double() for name, weight in model.named_parameters()}

    def normed(x_TD: Tensor, name: str) -> Tensor:
        centred_TD = x_TD - x_TD.mean(-1, keepdim=True)
        deviation_T1 = (centred_TD.square().mean(-1, keepdim=True) + config.norm_eps).sqrt()
        return centred_TD / deviation_T1 * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def rotated(x_K: Tensor, position: int) -> Tensor:
        x_K = x_K.clone()
        for pair in range(0, config.rotary_dim, 2):
            angle = position / 10000 ** (pair / config.rotary_dim)
            a, b = x_K[pair].item(), x_K[pair + 1].item()
            x_K[pair] = a * math.cos(angle) - b * math.sin(angle)
            x_K[pair + 1] = b * math.cos(angle) + a * math.sin(angle)
        return x_K

    positions = range(len(tokens_T))
    x_TD = weights["embedding.weight"][tokens_T]
    for layer in (f"layers.{index}" for index in range(config.n_layer)):
        h_TD = normed(x_TD, f"{layer}.norm")
        q_THK, k_THK, v_THK = (h_TD @ weights[f"{layer}.qkv.weight"].T).reshape(len(tokens_T), 3, 3, 16).unbind(1)
        mixed_THK = torch.zeros_like(v_THK)
        for head in range(config.n_head):
            q = [rotated(q_THK[i, head], i) for i in positions]
            k = [rotated(k_THK[j, head], j) for j in positions]
            for i in positions:
                seen = [j for j in positions if sees(i, j)]
                share = torch.stack([q[i] @ k[j] / math.sqrt(16) for j in seen]).softmax(0)
                mixed_THK[i, head] = sum(s * v_THK[j, head] for s, j in zip(share, seen, strict=True))
        inner = h_TD @ weights[f"{layer}.ff_in.weight"].T + weights[f"{layer}.ff_in.bias"]
        inner = 0.5 * inner * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
        fed_TD = inner @ weights[f"{layer}.ff_out.weight"].T + weights[f"{layer}.ff_out.bias"]
        x_TD = x_TD + mixed_THK.flatten(1) @ weights[f"{layer}.out.weight"].T + fed_TD
    return normed(x_TD, "norm") @ weights["head.weight"].T + weights["head.bias"]


def test_causal_logits_equal_a_plain_float64_reading() -> None:
    model, tokens_BT = random_model(), random_tokens(2, 7)
    expected = torch.stack([plain_logits(model, row, lambda i, j: j <= i) for row in tokens_BT.tolist()])
    torch.testing.assert_close(model(tokens_BT).double(), expected, atol=2e-5, rtol=1e-5)


def test_prefix_logits_equal_a_plain_float64_reading() -> None:
    model, tokens_BT = random_model(), random_tokens(2, 7)
    mask = prefix_lm([3, 5])
    expected = torch.stack(
        [
            plain_logits(model, row, lambda i, j, length=length: j <= i or j < length)
            for row, length in zip(tokens_BT.tolist(), (3, 5), strict=True)
        ]
    )
    torch.testing.assert_close(model(tokens_BT, mask).double(), expected, atol=2e-5, rtol=1e-5)


def test_the_published_6b_has_exactly_6050882784_parameters() -> None:
    with torch.device("meta"):
        model = GPTJ(GPTJConfig())
    assert sum(weight.numel() for weight in model.parameters()) == 6_050_882_784


def test_weights_begin_with_the_published_deviations() -> None:
    torch.manual_seed(0)
    model = GPTJ(GPTJConfig(vocab_size=900, n_layer=4, d_model=256, n_head=4, d_ff=1024, rotary_dim=32))
    # A normal cut at two deviations keeps 0.8796 of its deviation.
    layer, kept = model.layers[0], 0.8796
    expected = {
        model.embedding.weight: 1 / math.sqrt(900),
        model.head.weight: 1 / math.sqrt(256),
        layer.qkv.weight: 1 / math.sqrt(256),
        layer.ff_in.weight: 1 / math.sqrt(256),
        layer.out.weight: 2 / 4 / math.sqrt(256),
        layer.ff_out.weight: 2 / 4 / math.sqrt(256),
    }
    for weight, deviation in expected.items():
        assert weight.std().item() == pytest.approx(kept * deviation, rel=0.02)
        assert weight.abs().max().item() <= 2 * deviation
    for name, weight in model.named_parameters():
        if weight.dim() == 1:
            assert (weight == (1 if name.endswith("norm.weight") else 0)).all()


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_changing_a_target_token_never_changes_logits_before_it(data: st.DataObject) -> None:
    model, tokens_BT = random_model(), random_tokens(1, 10)
    prompt = data.draw(st.integers(0, 9))
    changed = data.draw(st.integers(prompt, 9))
    other_BT = tokens_BT.clone()
    other_BT[0, changed] = (other_BT[0, changed] + data.draw(st.integers(1, 60))) % 61
    before, after = (model(t, prefix_lm([prompt]))[0] for t in (tokens_BT, other_BT))
    assert torch.equal(before[:changed], after[:changed])
    assert not torch.equal(before[changed], after[changed])


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_changing_a_prompt_token_changes_the_logits_of_the_whole_prompt(data: st.DataObject) -> None:
    model, tokens_BT = random_model(), random_tokens(1, 10)
    prompt = data.draw(st.integers(1, 10))
    changed = data.draw(st.integers(0, prompt - 1))
    other_BT = tokens_BT.clone()
    other_BT[0, changed] = (other_BT[0, changed] + data.draw(st.integers(1, 60))) % 61
    before, after = (model(t, prefix_lm([prompt]))[0] for t in (tokens_BT, other_BT))
    assert (before - after).abs().amax(-1).min() > 1e-5


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), min_size=1, max_size=3), st.booleans())
def test_a_document_in_a_packed_row_has_the_logits_it_has_alone(
    documents: list[tuple[int, int]], is_prefix: bool
) -> None:
    model, lengths = random_model(), [p + t for p, t in documents]
    tokens_BT = random_tokens(1, 32)
    segments_BT, prefix_BT = torch.zeros(1, 32, dtype=torch.int32), torch.zeros(1, 32, dtype=torch.bool)
    starts = [sum(lengths[:n]) for n in range(len(lengths))]
    for number, (start, (prompt, target)) in enumerate(zip(starts, documents, strict=True), start=1):
        segments_BT[0, start : start + prompt + target] = number
        prefix_BT[0, start : start + prompt] = True
    packed = model(tokens_BT, packed_prefix_lm(segments_BT, prefix_BT) if is_prefix else packed_causal(segments_BT))
    assert packed.isfinite().all()
    for start, length, (prompt, _) in zip(starts, lengths, documents, strict=True):
        alone = model(tokens_BT[:, start : start + length], prefix_lm([prompt]) if is_prefix else causal())
        torch.testing.assert_close(packed[:, start : start + length], alone, atol=1e-5, rtol=1e-5)


def test_rows_of_padding_alone_stay_finite_and_leave_gradients_finite() -> None:
    model = random_model()
    segments_BT = torch.tensor([[1, 1, 2, 2], [0, 0, 0, 0], [1, 1, 0, 0]])
    logits_BTV = model(random_tokens(3, 4), packed_prefix_lm(segments_BT, torch.zeros(3, 4, dtype=torch.bool)))
    logits_BTV.square().mean().backward()
    assert logits_BTV.isfinite().all()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


def test_causal_attention_is_never_given_a_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    given_to: list[Any] = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def watched(q: Tensor, k: Tensor, v: Tensor, attn_mask: Any = None, **options: Any) -> Tensor:
        given_to.append((attn_mask, options["is_causal"]))
        return attend(q, k, v, attn_mask, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    model, tokens_BT = random_model(), random_tokens(2, 8)
    model(tokens_BT)
    model(tokens_BT, packed_causal(torch.ones(2, 8)))
    assert given_to == [(None, True)] * 2 * SMALL.n_layer


def test_hidden_then_head_is_forward() -> None:
    model, tokens_BT = random_model(), random_tokens(2, 8)
    torch.testing.assert_close(model.head(model.hidden(tokens_BT)[:, 3]), model(tokens_BT)[:, 3])


@pytest.mark.parametrize("is_prefix", [False, True])
def test_reading_through_a_cache_gives_the_logits_of_reading_at_once(is_prefix: bool) -> None:
    model, tokens_BT, prompts = random_model(), random_tokens(3, 12), [4, 1, 6]
    mask = prefix_lm(prompts) if is_prefix else causal()
    at_once = model(tokens_BT, mask)
    cache = KVCache(SMALL, 3, 12)
    padded_BT = tokens_BT[:, :6].clone()
    for row, length in enumerate(prompts):
        padded_BT[row, length:] = 60
    read = model(padded_BT, mask, cache)
    for row, length in enumerate(prompts):
        torch.testing.assert_close(read[row, :length], at_once[row, :length], atol=1e-4, rtol=0)
    cache.trim(prompts)
    for step in range(3):
        next_B1 = torch.stack([tokens_BT[row, length + step] for row, length in enumerate(prompts)])[:, None]
        stepped_BV = model(next_B1, cache=cache)[:, 0]
        expected_BV = torch.stack([at_once[row, length + step] for row, length in enumerate(prompts)])
        torch.testing.assert_close(stepped_BV, expected_BV, atol=1e-4, rtol=0)


def test_a_cache_keeps_the_rows_that_go_on() -> None:
    model, tokens_BT = random_model(), random_tokens(3, 8)
    cache = KVCache(SMALL, 3, 8)
    model(tokens_BT[:, :7], cache=cache)
    cache.keep([2, 0])
    torch.testing.assert_close(
        model(tokens_BT[[2, 0], 7:], cache=cache)[:, 0], model(tokens_BT)[[2, 0], 7], atol=1e-4, rtol=0
    )


def test_several_tokens_continue_a_cached_row_causally() -> None:
    model, tokens_BT = random_model(), random_tokens(2, 9)
    cache = KVCache(SMALL, 2, 9)
    parts = [model(part, cache=cache) for part in tokens_BT.split((4, 1, 4), dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens_BT), atol=1e-4, rtol=0)


def test_angles_stay_fp32_when_the_weights_are_cast() -> None:
    model = random_model(GPTJConfig(vocab_size=61, n_layer=1, d_model=16, n_head=1, d_ff=16, rotary_dim=16))
    turns = model.turns.clone()
    assert torch.equal(model.to(torch.bfloat16).turns, turns)
    assert model(random_tokens(1, 4)).dtype == torch.bfloat16


def test_a_row_longer_than_the_context_is_refused_with_both_numbers() -> None:
    model, cache = random_model(), KVCache(SMALL, 1, 64)
    with pytest.raises(MismatchError, match=r"33 tokens exceed the model's context of 32\. Shorten"):
        model(random_tokens(1, 33))
    model(random_tokens(1, 30), cache=cache)
    with pytest.raises(MismatchError, match=r"33 tokens exceed the model's context of 32"):
        model(random_tokens(1, 3), cache=cache)


def test_a_cache_refuses_more_than_its_room_and_a_mask_in_mid_row() -> None:
    model, cache = random_model(), KVCache(SMALL, 1, 4)
    with pytest.raises(MismatchError, match=r"5 tokens exceed the cache's 4"):
        model(random_tokens(1, 5), cache=cache)
    model(random_tokens(1, 2), cache=cache)
    with pytest.raises(MismatchError, match=r"after the first 2"):
        model(random_tokens(1, 2), prefix_lm([1]), cache)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_layer": 0}, "n_layer=0 is not positive"),
        ({"norm_eps": -1e-5}, "norm_eps=-1e-05 is not positive"),
        ({"d_model": 50}, "d_model=50 does not split into n_head=3 heads"),
        ({"d_model": 45}, "heads of even width"),
        ({"rotary_dim": 18}, "at most the head width d_model / n_head = 16"),
        ({"rotary_dim": 5}, "rotary_dim=5 must be even"),
    ],
)
def test_a_shape_that_cannot_be_built_is_refused_with_its_rule(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        decode(GPTJConfig, encode(SMALL) | changes)
