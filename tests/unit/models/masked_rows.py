"""Rows under masks of four kinds, for tests of attention by tiles."""

import torch
from torch import Tensor

from headrace.models.masks import Mask, causal, packed_causal, packed_prefix_lm, prefix_lm

ROWS = 5


def documents(tokens: int, rows: int = ROWS) -> Tensor:
    """Numbers of documents of random lengths, a row's last tokens padding in every other one."""
    draw = torch.Generator().manual_seed(tokens)
    segments_BT = (torch.rand(rows, tokens, generator=draw) < 0.02).cumsum(1) + 1
    segments_BT[::2, tokens - tokens // 10 :] = 0
    return segments_BT


def masks(tokens: int) -> dict[str, Mask]:
    segments_BT = documents(tokens)
    prompts_BT = (torch.arange(tokens) % 50 < 20).expand(ROWS, tokens)
    return {
        "causal": causal(),
        "prefix": prefix_lm([tokens // 3, 1, 0, tokens // 2, 7]),
        "packed": packed_causal(segments_BT),
        "packed prefix": packed_prefix_lm(segments_BT, prompts_BT),
    }


def seen_by(mask: Mask, tokens: int) -> Tensor:
    seen_B1TT = mask.dense(tokens)
    return torch.ones(1, 1, tokens, tokens, dtype=torch.bool).tril() if seen_B1TT is None else seen_B1TT
