"""Tiles of queries with the keys they meet, for attention on a CPU.

A tile's queries meet the keys from the first to the last that any of them may see, in any row of its group. torch's own
attention meets every key under a mask, skips half of them itself where rows are plainly causal, and keeps nothing for
the backward pass: it is left those rows in which there is more to be kept than to be gained, as measured.

Letters: B rows, T positions; Q queries of one tile.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

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


class Span(NamedTuple):
    """Some queries of a group of rows, and the keys they meet."""

    queries: slice
    keys: slice


class Tile(NamedTuple):
    """The same with what hides single keys from single queries."""

    span: Span
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
    parts = [slice(start, start + step) for start in range(0, rows, step)]
    if seen_B1TT is None:
        causal = _causal(tokens)
        groups = [Group(part, causal) for part in parts]
        return groups if mean_keys(groups) <= MOST_KEYS_CAUSAL else None
    seen_B1TT = seen_B1TT.expand(rows, -1, -1, -1)
    spans = [_spans(seen_B1TT[part]) for part in parts]
    if fmean(map(_mean_keys, spans)) > min(MOST_KEYS, int(MOST_OF_ROW * tokens)):
        return None
    return [Group(part, _hidden(seen_B1TT[part], met)) for part, met in zip(parts, spans, strict=True)]


def mean_keys(groups: Sequence[Group]) -> float:
    """Keys that a query meets, on average over groups."""
    return fmean(_mean_keys([tile.span for tile in group.tiles]) for group in groups)


def _mean_keys(spans: Sequence[Span]) -> float:
    met = sum(_length(queries) * _length(keys) for queries, keys in spans)
    tokens: int = spans[-1].queries.stop
    return met / tokens


def _length(part: slice) -> int:
    length: int = part.stop - part.start
    return length


def _queries(tokens: int) -> list[slice]:
    return [slice(start, min(start + QUERIES, tokens)) for start in range(0, tokens, QUERIES)]


def _causal(tokens: int) -> list[Tile]:
    """Every query meets the keys up to its tile's last; those of its own tile under a triangle."""
    bias = as_bias(torch.ones(1, 1, QUERIES, QUERIES, dtype=torch.bool).tril(), torch.float32)
    spans = [Span(queries, slice(0, queries.stop)) for queries in _queries(tokens)]
    return [Tile(span, bias[..., : _length(span.queries), : _length(span.queries)]) for span in spans]


def _spans(seen_B1TT: Tensor) -> list[Span]:
    """Every query meets the keys from the first to the last that any query of its tile sees in any row."""
    spans = []
    for queries in _queries(seen_B1TT.shape[2]):
        met = seen_B1TT[:, :, queries].flatten(0, 2).any(0).nonzero()
        spans.append(Span(queries, slice(int(met[0]), int(met[-1]) + 1)))
    return spans


def _hidden(seen_B1TT: Tensor, spans: Sequence[Span]) -> list[Tile]:
    """Tiles of spans, with the mask between their queries and keys."""
    return [Tile(span, as_bias(seen_B1TT[:, :, span.queries, span.keys], torch.float32)) for span in spans]
