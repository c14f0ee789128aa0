"""Hidden states of rows of any lengths, read side by side without a position of padding.

What looks at one token alone, which is nearly all of the work, is done for the tokens of all rows as one matrix;
attention, which looks at several, is done for rows of equal length together. In the last layer only what
somebody asks for goes on after attention.

Letters: N tokens of all rows, one row after the other, M of them asked for, B rows of a group, T tokens of each,
D model width, H heads, K head width.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from headrace.models.gptj import GPTJ, Layer
from headrace.models.masks import as_bias, forked

FEED_FORWARD_TOKENS = 512
"""Tokens that pass the feed-forward at a time, so that what lies between its products stays in a core's cache."""


class Fork(NamedTuple):
    """What is read of a context and of all that follows it, as branches of one row."""

    tokens: Sequence[int]
    trunk: int
    """Tokens of the context."""
    branches: Sequence[int]
    """Tokens of each branch after it."""


class Group(NamedTuple):
    """Neighbouring rows of equal length."""

    tokens: slice
    """Theirs among all."""
    rows: int
    bias: Tensor | None
    """Float (B, 1, T, T), 0 where a key may be seen and -inf elsewhere; None where the rows are plainly causal."""


def read(model: GPTJ, rows: Sequence[Fork], asked_M: Tensor, *, prompt: bool) -> Tensor:
    """Compute hidden states of shape (M, D), as `GPTJ.hidden` does.

    Args:
        model: In evaluation mode; the rows fit its context.
        rows: Those of equal length are read together where they are neighbours.
        asked_M: Which of all tokens, counted through the rows, int64.
        prompt: Whether contexts are seen whole, by themselves too; causal otherwise.
    """
    weight = model.embedding.weight
    groups, positions_N = _grouped(rows, weight, prompt=prompt)
    turns = torch.view_as_complex(model.turns)[positions_N][:, None, None]
    x_ND: Tensor = model.embedding(torch.tensor([token for row in rows for token in row.tokens], device=weight.device))
    asked_M = asked_M.to(weight.device)
    layers = cast(Sequence[Layer], model.layers)
    for number, layer in enumerate(layers, start=1):
        normed_ND = layer.norm(x_ND)
        mixed_ND = _attend(layer, normed_ND, turns, groups)
        if number == len(layers):
            x_ND, normed_ND, mixed_ND = (part[asked_M] for part in (x_ND, normed_ND, mixed_ND))
        _rise(layer, x_ND, normed_ND, mixed_ND)
    final_MD: Tensor = model.norm(x_ND)
    return final_MD


def _grouped(rows: Sequence[Fork], like: Tensor, *, prompt: bool) -> tuple[list[Group], Tensor]:
    """Groups of rows, with the place of each token in its own text, int64, on the device of `like`."""
    groups, positions = [], []
    start = 0
    for (tokens, _), chosen in itertools.groupby(rows, key=lambda row: (len(row.tokens), len(row.branches) > 1)):
        alike = list(chosen)
        mask = forked([row.trunk for row in alike], [row.branches for row in alike], prompt=prompt)
        seen = mask.dense(tokens)
        bias = None if seen is None else as_bias(seen, like.dtype).to(like.device)
        stop = start + tokens * len(alike)
        groups.append(Group(slice(start, stop), len(alike), bias))
        placed_BT = torch.arange(tokens).expand(len(alike), -1) if mask.positions_BT is None else mask.positions_BT
        positions.append(placed_BT.flatten())
        start = stop
    return groups, torch.cat(positions).to(like.device)


def _attend(layer: Layer, normed_ND: Tensor, turns: Tensor, groups: Sequence[Group]) -> Tensor:
    """What each token sees of its row, before the layer's output product: (N, D)."""
    of_all = layer.heads(normed_ND, turns)
    mixed_ND = torch.empty_like(normed_ND)
    for group in groups:
        q_BHTK, k_BHTK, v_BHTK = (
            part_NHK[group.tokens].unflatten(0, (group.rows, -1)).transpose(1, 2) for part_NHK in of_all
        )
        mixed_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK, group.bias, is_causal=group.bias is None)
        mixed_ND[group.tokens] = mixed_BHTK.transpose(1, 2).flatten(2).flatten(0, 1)
    return mixed_ND


def _rise(layer: Layer, x_ND: Tensor, normed_ND: Tensor, mixed_ND: Tensor) -> None:
    """Add what a layer has to say to the residual stream, in place: each product is summed where it belongs."""
    x_ND.addmm_(mixed_ND, layer.out.weight.T)
    at_once = FEED_FORWARD_TOKENS if x_ND.device.type == "cpu" else len(x_ND)
    for slice_ND, into_ND in zip(normed_ND.split(at_once), x_ND.split(at_once), strict=True):
        into_ND.addmm_(F.gelu(layer.ff_in(slice_ND), approximate="tanh"), layer.ff_out.weight.T)
    x_ND += layer.ff_out.bias
