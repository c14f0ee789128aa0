"""Attention by tiles against its definition in float64, and against torch's under a matrix."""

import math

import pytest
import torch
from torch import Tensor

from headrace.models import tiles, tiling
from headrace.models.gptj import GPTJ, GPTJConfig, turn_table
from headrace.models.masks import forked
from tests.unit.models.masked_rows import ROWS, masks, seen_by


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles also where torch would do as well."""
    monkeypatch.setattr(tiling, "MOST_OF_ROW", 1.0)


def by_definition(qkv_BTE: Tensor, turns_TK: Tensor, seen_B1TT: Tensor, heads: int) -> Tensor:
    q, k, v = qkv_BTE.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    q, k = (torch.view_as_complex(one.unflatten(-1, (-1, 2))) * turns_TK for one in (q, k))
    q, k = (torch.view_as_real(one).flatten(-2) for one in (q, k))
    scores = q @ k.mT / math.sqrt(v.shape[-1])
    return (scores.masked_fill(~seen_B1TT, -torch.inf).softmax(-1) @ v).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("name", masks(200))
@pytest.mark.parametrize(("tokens", "heads", "head_dim"), [(200, 4, 8), (384, 3, 16), (300, 20, 4)])
@pytest.mark.usefixtures("always")
def test_values_and_gradients_are_those_of_the_definition(name: str, tokens: int, heads: int, head_dim: int) -> None:
    torch.manual_seed(0)
    mask = masks(tokens)[name]
    config = GPTJConfig(d_model=heads * head_dim, n_head=heads, rotary_dim=head_dim // 2, context_tokens=tokens)
    turns_TK = torch.view_as_complex(turn_table(config))
    qkv_BTE = torch.randn(ROWS, tokens, 3 * heads * head_dim, requires_grad=True)
    exact_BTE = qkv_BTE.detach().double().requires_grad_()
    outer = torch.randn(ROWS, tokens, heads * head_dim)
    groups = tiling.cut(mask.dense(tokens), ROWS, tokens, heads)
    assert groups is not None
    found = tiles.attend(qkv_BTE, turns_TK, groups, head_dim)
    expected = by_definition(exact_BTE, turns_TK.to(torch.complex128), seen_by(mask, tokens), heads)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=2e-6)
    (gradient,) = torch.autograd.grad(found, qkv_BTE, outer)
    (exact,) = torch.autograd.grad(expected, exact_BTE, outer.double())
    torch.testing.assert_close(gradient.double(), exact, rtol=1e-4, atol=1e-5)


def small_model() -> GPTJ:
    torch.manual_seed(0)
    config = {"vocab_size": 61, "n_layer": 2, "d_model": 48, "n_head": 3, "d_ff": 80, "rotary_dim": 6}
    return GPTJ(GPTJConfig(**config, context_tokens=300))


def losses_and_gradients(model: GPTJ, tokens: int) -> list[Tensor]:
    tokens_BT = torch.arange(ROWS * tokens).reshape(ROWS, tokens) % 61
    losses = [model(tokens_BT, mask).square().mean() for mask in masks(tokens).values()]
    gradients = torch.autograd.grad(torch.stack(losses).sum(), list(model.parameters()))
    return [torch.stack(losses).detach(), *gradients]


@pytest.mark.usefixtures("always")
def test_a_model_attends_by_tiles_as_it_does_under_the_matrix() -> None:
    model = small_model()
    found = []
    for model.attention in ("dense", "tiles"):
        found.append(losses_and_gradients(model, 300))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("recompute", "by_tiles"), [("none", True), ("layers", False), ("selective", False)])
def test_who_computes_again_to_save_memory_keeps_no_probabilities(
    recompute, by_tiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, calls, attend = small_model(), [], tiles.attend
    model.attention, model.recompute = "tiles", recompute
    monkeypatch.setattr(tiles, "attend", lambda *given: calls.append(given) or attend(*given))
    model(torch.zeros(ROWS, 300, dtype=torch.int64)).sum().backward()
    assert bool(calls) == by_tiles


def test_rows_that_fork_have_positions_of_their_own_and_go_by_the_matrix() -> None:
    model, mask = small_model(), forked([100, 200], [[50, 150], [60, 40]], prompt=True)
    tokens_BT = torch.arange(600).reshape(2, 300) % 61
    expected = model(tokens_BT, mask)
    model.attention = "tiles"
    assert torch.equal(model(tokens_BT, mask), expected)


def test_equal_rows_give_equal_bits() -> None:
    model = small_model()
    model.attention = "tiles"
    first, second = (losses_and_gradients(model, 300) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_heads_that_processes_share_are_each_as_they_are_together() -> None:
    groups = tiling.cut(None, ROWS, 250, 4)
    assert groups is not None
    turns_TK = torch.polar(torch.ones(250, 4), torch.rand(250, 4))
    qkv = torch.randn(ROWS, 250, 3, 4, 8)
    whole = tiles.attend(qkv.flatten(2), turns_TK, groups, 8).unflatten(-1, (4, 8))
    for first in (0, 2):
        part = tiles.attend(qkv[:, :, :, first : first + 2].flatten(2), turns_TK, groups, 8)
        torch.testing.assert_close(part.unflatten(-1, (2, 8)), whole[:, :, first : first + 2])
