"""What the sides of a training benchmark share: a model's shape, random tokens, and our configuration."""

from collections.abc import Mapping
from typing import Any

SHAPE = {"vocab_size": 4096, "n_layer": 7, "d_model": 256, "n_head": 4, "d_ff": 1024, "rotary_dim": 32}
"""GPT-J of 7 M parameters."""
TOKENS = 8192
"""Positions of a step, at any context, where a benchmark names no rows."""
STEPS = 8
"""Of the schedule, where a benchmark names none."""


def train_config(context: int, shape: Mapping[str, int] = SHAPE, rows: int = 0, **others: Any) -> Any:
    """Our side's configuration.

    Args:
        context: Tokens of a row.
        shape: The model's.
        rows: Of a step; those that make `TOKENS` positions where 0.
        others: More of its fields, or other ones.
    """
    from headrace.data.loader import LoaderConfig, SourceConfig
    from headrace.models.gptj import GPTJConfig
    from headrace.training.config import TrainConfig

    rows = rows or TOKENS // context
    model = GPTJConfig(**shape, context_tokens=context)
    data = LoaderConfig(context_tokens=context, rows=rows, sources={"text": SourceConfig()})
    return TrainConfig(model=model, data=data, **{"steps": STEPS, "microbatch_rows": rows, **others})


def tokens(context: int, rows: int = 0, vocabulary: int = SHAPE["vocab_size"]) -> Any:
    """Random ids, one more than the context in each row: int64; rows of `TOKENS` positions together where 0."""
    import numpy as np

    return np.random.default_rng(0).integers(0, vocabulary, (rows or TOKENS // context, context + 1))


def batch_of(stream_RT: Any, segments_BT: Any, prefix_BT: Any) -> Any:
    """A batch of what `tokens` gave, every position of which is scored."""
    from headrace.data.batch import Batch

    return Batch(stream_RT[:, :-1].copy(), stream_RT[:, 1:].copy(), segments_BT, prefix_BT)
