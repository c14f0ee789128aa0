"""Attention by tiles, on a CPU: each tile of queries meets only the keys that some query in it may see.

A tile's scores are one batched product that stays in the cores' caches, and its probabilities are kept for the
backward pass, which so needs four products instead of torch's five, and no exponential. torch's own attention keeps
none, and skips half the keys itself where rows are plainly causal: it is left those rows in which there is more to be
kept than to be gained, as measured.

The gradient is that of Dao et al. 2022, arXiv:2205.14135, appendix B.2, with the probabilities at hand.

Letters: B rows, T positions, H heads, K head width, E = 3 * H * K; of one tile, G heads of a group of rows, Q queries
and S keys.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from headrace.models.masks import as_bias

QUERIES = 128
"""Queries of a tile: fewer make smaller products, more let causal queries meet more keys in vain."""
HEADS = 16
"""Heads of a group, of as many rows as have them: their tile of 512 keys takes 4 MiB."""
FEWEST_TOKENS = 192
"""Rows up to here are a tile or little more, and nothing is gained."""
MOST_KEYS_CAUSAL = 512
"""Keys that a query meets on average, in causal rows of 896 tokens: beyond, torch is about as fast."""
MOST_KEYS = 1280
"""The same under a mask, for memory's sake."""
MOST_OF_ROW = 0.8
"""Share of a row's keys that a query meets on average; torch meets all of them under a mask."""


class Tile(NamedTuple):
    """Some queries of a group of rows, and the keys they meet."""

    queries: slice
    keys: slice
    bias: Tensor
    """Added to the scores of the last keys, as many as it has: (rows or 1, 1, Q, keys), fp32."""


class Group(NamedTuple):
    """Rows that are computed together."""

    rows: slice
    tiles: Sequence[Tile]


def cut(seen_B1TT: Tensor | None, rows: int, tokens: int, heads: int) -> Sequence[Group] | None:
    """Tiles of rows that are read whole; None where torch's own attention is as good, and under autocast.

    Args:
        seen_B1TT: What `Mask.dense` gave: which keys each query may see, or None where rows are plainly causal.
        rows: Of the batch.
        tokens: Of each row.
        heads: Of the model.
    """
    if tokens < FEWEST_TOKENS or torch.is_autocast_enabled("cpu"):
        return None
    step = max(1, HEADS // heads)
    starts = range(0, rows, step)
    if seen_B1TT is None:
        most, causal = MOST_KEYS_CAUSAL, _causal(tokens)
        groups = [Group(slice(start, start + step), causal) for start in starts]
    else:
        most, seen_B1TT = min(MOST_KEYS, int(MOST_OF_ROW * tokens)), seen_B1TT.expand(rows, -1, -1, -1)
        groups = [Group(slice(start, start + step), _masked(seen_B1TT[start : start + step])) for start in starts]
    return groups if mean_keys(groups) <= most else None


def mean_keys(groups: Sequence[Group]) -> float:
    """Keys that a query meets, on average over groups."""
    met: list[int] = [sum(_length(tile.queries) * _length(tile.keys) for tile in group.tiles) for group in groups]
    tokens: int = groups[0].tiles[-1].queries.stop
    return sum(met) / len(groups) / tokens


def _length(part: slice) -> int:
    length: int = part.stop - part.start
    return length


def _causal(tokens: int) -> list[Tile]:
    """Every query meets the keys up to its tile's last; those of its own tile under a triangle."""
    bias = as_bias(torch.ones(1, 1, QUERIES, QUERIES, dtype=torch.bool).tril(), torch.float32)
    bounds = [(start, min(start + QUERIES, tokens)) for start in range(0, tokens, QUERIES)]
    return [
        Tile(slice(start, stop), slice(0, stop), bias[..., : stop - start, : stop - start]) for start, stop in bounds
    ]


def _masked(seen_B1TT: Tensor) -> list[Tile]:
    """Every query meets the keys from the first to the last that any query of its tile sees in any row."""
    tiles = []
    for start, seen_B1QT in zip(range(0, seen_B1TT.shape[2], QUERIES), seen_B1TT.split(QUERIES, dim=2), strict=True):
        met = seen_B1QT.flatten(0, 2).any(0).nonzero()
        keys = slice(int(met[0]), int(met[-1]) + 1)
        queries = slice(start, start + seen_B1QT.shape[2])
        tiles.append(Tile(queries, keys, as_bias(seen_B1QT[..., keys], torch.float32)))
    return tiles


def attend(qkv_BTE: Tensor, turns_TK: Tensor, groups: Sequence[Group], head_dim: int) -> Tensor:
    """Turn queries and keys by where they stand, and mix values by how well they agree: BT(H * K), fp32.

    Args:
        qkv_BTE: Queries, keys and values of all heads side by side, fp32.
        turns_TK: Unit complex numbers, one for each of a head's K / 2 pairs.
        groups: What `cut` gave for these rows.
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
    for queries, keys, bias in tiles:
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
    for (queries, keys, _), kept_GQS in zip(reversed(tiles), reversed(kept), strict=True):
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
