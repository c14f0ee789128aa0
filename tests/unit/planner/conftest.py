from typing import Any

import pytest

from headrace.data.loader import LoaderConfig, SourceConfig
from headrace.models.gptj import GPTJConfig
from headrace.training.config import TrainConfig


@pytest.fixture(scope="session")
def make_train() -> Any:
    """Makes a small configuration; keyword arguments change its model, `rows`, `context`, or the rest."""

    def make(*, rows: int = 4, context: int = 64, **changes: Any) -> TrainConfig:
        shape = {"vocab_size": 320, "n_layer": 3, "d_model": 64, "n_head": 4, "d_ff": 256, "rotary_dim": 8}
        shape |= {name: changes.pop(name) for name in [*changes] if name in shape}
        given = {"steps": 10, "microbatch_rows": rows, **changes}
        return TrainConfig(
            model=GPTJConfig(**shape, context_tokens=context),
            data=LoaderConfig(context_tokens=context, rows=rows, sources={"text": SourceConfig()}),
            **given,
        )

    return make
