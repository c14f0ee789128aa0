from dataclasses import replace

import pytest

from headrace.config import decode, encode
from headrace.errors import ConfigError
from headrace.training.config import TrainConfig


def test_a_configuration_survives_its_way_through_json(tiny) -> None:
    assert decode(TrainConfig, encode(tiny.config)) == tiny.config


def test_microbatches_that_do_not_make_up_a_step_are_refused(tiny) -> None:
    with pytest.raises(ConfigError, match=r"microbatch_rows=3 does not divide rows=4"):
        replace(tiny.config, microbatch_rows=3)


def test_rows_longer_than_the_models_context_are_refused(tiny) -> None:
    with pytest.raises(ConfigError, match=r"data\.context_tokens=65 exceeds model\.context_tokens=64"):
        tiny.with_data(context_tokens=65)


@pytest.mark.parametrize("name", ["steps", "microbatch_rows", "checkpoint_every_steps", "log_every_steps"])
def test_counts_below_one_are_refused(name: str, tiny) -> None:
    with pytest.raises(ConfigError, match=f"{name}=0 is below 1"):
        replace(tiny.config, **{name: 0})


@pytest.mark.parametrize(("name", "value"), [("z_loss", -1e-4), ("seed", -1)])
def test_values_below_zero_are_refused(name: str, value: float, tiny) -> None:
    with pytest.raises(ConfigError, match=f"{name}={value} is below 0"):
        replace(tiny.config, **{name: value})
