"""Attention by blocks against attention under a matrix, and against its definition in float64."""

import math
import shutil
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from headrace.errors import MismatchError
from headrace.models import blocks
from headrace.models.gptj import GPTJ, GPTJConfig
from headrace.models.masks import Mask, causal, forked, packed_causal, packed_prefix_lm, prefix_lm

BLOCK = 128


def packed(rows: int, tokens: int, seed: int) -> Mask:
    """Documents of random lengths, each with a prompt, and padding at the end of some rows."""
    draw = torch.Generator().manual_seed(seed)
    segments_BT = torch.randint(1, 5, (rows, tokens), generator=draw, dtype=torch.int32).sort().values
    segments_BT[0, tokens - tokens // 8 :] = 0
    starts_BT = F.pad(segments_BT[:, 1:] != segments_BT[:, :-1], (1, 0), value=True)
    within_BT = torch.arange(tokens) - torch.where(starts_BT, torch.arange(tokens), 0).cummax(1).values
    return packed_prefix_lm(segments_BT, within_BT < torch.randint(0, tokens // 4, (rows, 1), generator=draw))


def masks(tokens: int) -> list[Mask]:
    trunk, rest = tokens // 3, tokens - tokens // 3
    fork = forked([trunk, 5], [[rest // 2, rest - rest // 2], [tokens - 5]], prompt=True)
    packs = packed(2, tokens, seed=tokens)
    return [packs, Mask(segments_BT=packs.segments_BT), prefix_lm([trunk, 3]), fork]


def written_out(mask: Mask, tokens: int) -> Tensor:
    seen_B1TT = mask.dense(tokens)
    assert seen_B1TT is not None
    return seen_B1TT


def block_mask(mask: Mask, tokens: int):
    made = blocks.block_mask(mask, 2, tokens)
    assert made is not None
    return made


def by_definition(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    scores = q.double() @ k.double().mT / math.sqrt(q.shape[-1])
    return scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v.double()


def with_gradients(mixed: Tensor, inputs: list[Tensor], outer: Tensor) -> list[Tensor]:
    return [mixed.detach(), *torch.autograd.grad(mixed, inputs, outer.to(mixed.dtype))]


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize(("tokens", "heads"), [(40, 3), (257, 2)])
def test_values_and_gradients_are_those_of_attention_under_the_matrix(tokens: int, heads: int, flex_on_cpu) -> None:
    for number, mask in enumerate(masks(tokens)):
        torch.manual_seed(number)
        q, k, v = inputs = [torch.randn(2, heads, tokens, 16, requires_grad=True) for _ in range(3)]
        outer, seen = torch.randn(2, heads, tokens, 16), written_out(mask, tokens)
        found = with_gradients(blocks.attend(q, k, v, block_mask(mask, tokens)), inputs, outer)
        under_matrix = with_gradients(F.scaled_dot_product_attention(q, k, v, seen), inputs, outer)
        defined = with_gradients(by_definition(q, k, v, seen), inputs, outer)
        for one, other, exact in zip(found, under_matrix, defined, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(one.double(), exact.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tokens", [100, 300])
def test_blocks_are_left_out_that_nobody_sees_and_whole_ones_need_no_rule(tokens: int) -> None:
    for mask in masks(tokens):
        made, seen = block_mask(mask, tokens), written_out(mask, tokens).expand(2, 1, tokens, tokens)
        for row, i, j in product(range(2), range(-(-tokens // BLOCK)), range(-(-tokens // BLOCK))):
            block = seen[row, 0, i * BLOCK : (i + 1) * BLOCK, j * BLOCK : (j + 1) * BLOCK]
            whole = bool(block.all()) and block.numel() == BLOCK * BLOCK
            assert (j in listed(made.full_kv_num_blocks, made.full_kv_indices, row, i)) == whole
            assert (j in listed(made.kv_num_blocks, made.kv_indices, row, i)) == (bool(block.any()) and not whole)


def listed(counts: Tensor, indices: Tensor, row: int, query_block: int) -> list[int]:
    found: list[int] = indices[row, 0, query_block, : counts[row, 0, query_block]].tolist()
    return found


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for a CPU with g++")
@torch.no_grad()
def test_compiled_it_skips_blocks_and_compiles_nothing_for_another_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.utils import counters

    monkeypatch.setattr(blocks, "_functions", lambda device: blocks._compiled())
    graphs = []
    for seed in range(5):
        torch.manual_seed(seed)
        q, k, v = (torch.randn(2, 2, 300, 16) for _ in range(3))
        mask = packed(2, 300, seed)
        mixed = blocks.attend(q, k, v, block_mask(mask, 300))
        exact = by_definition(q, k, v, written_out(mask, 300))
        torch.testing.assert_close(mixed.double(), exact, rtol=1e-5, atol=1e-5)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[2:] == graphs[2:3] * 3


def test_plainly_causal_rows_have_no_blocks() -> None:
    one_document = torch.ones(2, 300, dtype=torch.int32)
    for mask in (causal(), packed_causal(one_document), packed_prefix_lm(one_document, one_document == 0)):
        assert blocks.block_mask(mask, 2, 300) is None


def test_a_mask_for_other_rows_is_refused() -> None:
    with pytest.raises(MismatchError, match="300 positions and the batch has 200"):
        blocks.block_mask(packed(2, 300, 0), 2, 200)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("policy", ["none", "layers", "selective"])
def test_a_model_attends_by_blocks_as_it_does_under_the_matrix(policy: str, flex_on_cpu) -> None:
    torch.manual_seed(0)
    model = GPTJ(GPTJConfig(vocab_size=61, n_layer=2, d_model=48, n_head=3, d_ff=80, rotary_dim=6, context_tokens=140))
    model.recompute, found = policy, []
    for model.attention in ("dense", "blocks"):
        losses = [model(torch.arange(280).reshape(2, 140) % 61, mask).square().mean() for mask in [None, *masks(140)]]
        gradients = torch.autograd.grad(sum(losses), list(model.parameters()))
        found.append([torch.stack(losses).detach(), *gradients])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
