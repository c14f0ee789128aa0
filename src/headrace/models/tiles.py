"""Attention by tiles, on a CPU: each tile of queries meets only the keys that some query in it may see.

A tile's scores are one batched product that stays in the cores' caches, and its probabilities are kept for the
backward pass, which so needs four products instead of torch's five, and no exponential.

The gradient is that of Dao et al. 2022, arXiv:2205.14135, appendix B.2, with the probabilities at hand.

Letters: B rows, T positions, H heads, K head width, E = 3 * H * K; of one tile, G heads of a group of rows, Q queries
and S keys.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from headrace.models.tiling import Group, Tile


def attend(qkv_BTE: Tensor, turns_TK: Tensor, groups: Sequence[Group], head_dim: int) -> Tensor:
    """Turn queries and keys by where they stand, and mix values by how well they agree: BT(H * K), fp32.

    Args:
        qkv_BTE: Queries, keys and values of all heads side by side, fp32.
        turns_TK: Unit complex numbers, one for each of a head's K / 2 pairs.
        groups: What `tiling.cut` gave for these rows.
        head_dim: K.
    """
    mixed: Tensor = _ByTiles.apply(qkv_BTE, turns_TK, groups, head_dim)
    return mixed


class _ByTiles(torch.autograd.Function):
    """Rotation and attention as one operation, which knows its own gradient."""

    @staticmethod
    def forward(ctx: Any, qkv_BTE: Tensor, turns_TK: Tensor, groups: Sequence[Group], head_dim: int) -> Tensor:
        parts = _by_heads(qkv_BTE, head_dim)
        turned = torch.empty(parts.shape)
        mixed_BTHK = torch.empty(parts[0].transpose(1, 2).shape)
        scaled_TK, kept = turns_TK * head_dim**-0.5, list[Tensor]()
        for rows, tiles in groups:
            _turn(parts[0, rows], scaled_TK, turned[0, rows])
            _turn(parts[1, rows], turns_TK, turned[1, rows])
            turned[2, rows] = parts[2, rows]
            probabilities = _mix(turned[:, rows], tiles, mixed_BTHK[rows])
            kept.extend(probabilities if ctx.needs_input_grad[0] else ())
        ctx.save_for_backward(turned, turns_TK, *kept)
        ctx.groups = groups
        return mixed_BTHK.flatten(2)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        turned, turns_TK, *kept = ctx.saved_tensors
        head_dim, back_TK = turned.shape[-1], turns_TK.conj().resolve_conj()
        to_mixed_BTHK = outer[0].unflatten(-1, (-1, head_dim))
        to_qkv_BTE = torch.empty(*outer[0].shape[:2], 3 * outer[0].shape[2])
        to_parts, scaled_TK = _by_heads(to_qkv_BTE, head_dim), back_TK * head_dim**-0.5
        for rows, tiles in ctx.groups:
            probabilities, kept = kept[: len(tiles)], kept[len(tiles) :]
            to_q, to_k, to_v = _unmix(turned[:, rows], to_mixed_BTHK[rows].transpose(1, 2), probabilities, tiles)
            _turn(to_q, scaled_TK, to_parts[0, rows])
            _turn(to_k, back_TK, to_parts[1, rows])
            to_parts[2, rows] = to_v
        return to_qkv_BTE, None, None, None


def _by_heads(qkv_BTE: Tensor, head_dim: int) -> Tensor:
    """Queries, keys and values: a view (3, B, H, T, K)."""
    parts: Tensor = qkv_BTE.unflatten(-1, (3, -1, head_dim)).permute(2, 0, 3, 1, 4)
    return parts


def _turn(heads: Tensor, turns_TK: Tensor, into: Tensor) -> None:
    """Write heads with each neighbouring pair rotated."""
    heads, into = (torch.view_as_complex(one.unflatten(-1, (-1, 2))) for one in (heads, into))
    torch.mul(heads, turns_TK, out=into)


def _mix(turned: Tensor, tiles: Sequence[Tile], into_BTHK: Tensor) -> list[Tensor]:
    """Write what a group's values are mixed to; the probabilities GQS of its tiles."""
    each = turned.shape[1:3]
    q_GTK, k_GTK, v_GTK = turned.flatten(1, 2)
    # Keys are laid out across, so that a product reads both its factors along their grain.
    k_GKT, kept = k_GTK.mT.contiguous(), []
    for (queries, keys), bias in tiles:
        scores_GQS = torch.bmm(q_GTK[:, queries], k_GKT[:, :, keys])
        scores_GQS.unflatten(0, each)[..., -bias.shape[-1] :].add_(bias)
        kept.append(torch.softmax(scores_GQS, -1, out=scores_GQS))
        into_BTHK[:, queries] = torch.bmm(scores_GQS, v_GTK[:, keys]).unflatten(0, each).transpose(1, 2)
    return kept


def _unmix(turned: Tensor, to_mixed_BHTK: Tensor, kept: Sequence[Tensor], tiles: Sequence[Tile]) -> list[Tensor]:
    """Gradients BHTK of a group's turned queries and keys, and of its values."""
    q_GTK, k_GTK, v_GTK = turned.flatten(1, 2)
    to_mixed_GTK = to_mixed_BHTK.flatten(0, 1).contiguous()
    v_GKT, to_q_GTK = v_GTK.mT.contiguous(), torch.empty_like(q_GTK)
    to_k_GTK = to_v_GTK = None
    # Last tile first: where it meets all keys, as in causal rows, the others are added to its gradient.
    for ((queries, keys), _), kept_GQS in zip(reversed(tiles), reversed(kept), strict=True):
        to_mixed_GQK = to_mixed_GTK[:, queries]
        to_scores_GQS = torch.bmm(to_mixed_GQK, v_GKT[:, :, keys])
        torch._softmax_backward_data(to_scores_GQS, kept_GQS, -1, torch.float32, grad_input=to_scores_GQS)
        to_q_GTK[:, queries] = torch.bmm(to_scores_GQS, k_GTK[:, keys])
        to_k_GTK = _added(to_k_GTK, torch.bmm(to_scores_GQS.mT, q_GTK[:, queries]), keys, q_GTK)
        to_v_GTK = _added(to_v_GTK, torch.bmm(kept_GQS.mT, to_mixed_GQK), keys, q_GTK)
    return [part.view(turned.shape[1:]) for part in (to_q_GTK, to_k_GTK, to_v_GTK) if part is not None]


def _added(total_GTK: Tensor | None, part_GSK: Tensor, keys: slice, like_GTK: Tensor) -> Tensor:
    """A sum over tiles with one more of them in it."""
    if total_GTK is None and part_GSK.shape == like_GTK.shape:
        return part_GSK
    total_GTK = torch.zeros_like(like_GTK) if total_GTK is None else total_GTK
    total_GTK[:, keys] += part_GSK
    return total_GTK
