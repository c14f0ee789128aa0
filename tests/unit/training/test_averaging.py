from typing import Any

import pytest

from headrace.config import decode, encode
from headrace.errors import ConfigError
from headrace.training import averaging
from headrace.training.averaging import AveragingConfig, CompressionConfig


@pytest.mark.parametrize("make", [AveragingConfig, averaging.gptjt, averaging.diloco, averaging.cocktail])
def test_a_configuration_survives_its_way_through_json(make: Any) -> None:
    assert decode(AveragingConfig, encode(make())) == make()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"probability": 0.0}, r"probability=0\.0"),
        ({"probability": 1.5}, r"probability=1\.5"),
        ({"every_steps": 0}, "every_steps=0"),
        ({"synchronous_steps": -1}, "synchronous_steps=-1"),
        ({"kind": "proxskip", "synchronous_steps": 0}, "synchronous_steps=0 leaves proxskip"),
        ({"seed": -1}, "seed=-1"),
        ({"outer_learning_rate": 0.0}, r"outer_learning_rate=0\.0"),
        ({"outer_momentum": 1.0}, r"outer_momentum=1\.0"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        AveragingConfig(**values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"one_in": 0}, "one_in=0"),
        ({"bucket": 0}, "bucket=0"),
        ({"top_share": 0.0}, r"top_share=0\.0"),
        ({"top_share": 1.1}, r"top_share=1\.1"),
        ({"bits": 3}, "bits=3"),
    ],
)
def test_messages_that_hold_nothing_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        CompressionConfig(**values)
