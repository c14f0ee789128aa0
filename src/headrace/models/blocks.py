"""Attention that leaves out what nobody may see: FlexAttention, over blocks of 128 queries by 128 keys.

A block in which no query may see a key is not computed, and in one that is seen in part the rule of the mask is worked
out where the scores are; no matrix over all pairs of positions is kept. Plainly causal rows need no rule and stay with
scaled_dot_product_attention.

Its kernels know their gradient on GPUs alone. Their speed has not been measured here.

Source: Dong et al. 2024, arXiv:2412.05496; the kernels are those of torch.nn.attention.flex_attention.

Letters: B rows, T positions, H heads, K head width.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headrace.models.masks import Mask

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


def block_mask(mask: Mask, rows: int, tokens: int) -> "BlockMask | None":
    """Which blocks a mask shows in whole, in part and not at all; None where it is plainly causal.

    Raises:
        MismatchError: The mask was built for rows of another length.
    """
    rule = mask.rule(rows, tokens)
    if rule is None:
        return None
    create, _ = _functions(rule.device)
    blocks: BlockMask = create(rule.sees, rows, None, tokens, tokens, device=rule.device)
    return blocks


def attend(q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor, blocks: "BlockMask") -> Tensor:
    """Mix values by how well queries and keys agree, over the pairs that are seen: BHTK."""
    _, flex_attention = _functions(q_BHTK.device)
    mixed_BHTK: Tensor = flex_attention(q_BHTK, k_BHTK, v_BHTK, block_mask=blocks)
    return mixed_BHTK


def _functions(device: torch.device) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """torch's `create_block_mask` and `flex_attention`: kernels on a GPU, their plain definition elsewhere.

    Within a layer that is compiled, the definition becomes a kernel of its graph.
    """
    return _compiled() if device.type == "cuda" and not torch.compiler.is_compiling() else _plain()


@functools.cache
def _compiled() -> tuple[Callable[..., Any], Callable[..., Any]]:
    # A rule of the same kind over other tensors is no other graph: each batch brings its own.
    create, attend = _plain()
    return torch.compile(create), torch.compile(attend)


def _plain() -> tuple[Callable[..., Any], Callable[..., Any]]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    return create_block_mask, flex_attention
