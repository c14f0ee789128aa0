import math

import pytest
import torch

from headrace.errors import ConfigError
from headrace.training import schedule
from headrace.training.schedule import ScheduleConfig


def as_transformers_does_it(peak: float, warmup_steps: int, steps: int) -> list[float]:
    from transformers import get_linear_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    scheduler = get_linear_schedule_with_warmup(optimizer, warmup_steps, steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_gptjt_is_the_linear_schedule_of_transformers_at_every_step() -> None:
    config = schedule.gptjt(steps=700)
    rates = [config.learning_rate(step) for step in range(700)]
    assert rates == pytest.approx(as_transformers_does_it(1e-5, 100, 700), abs=1e-18)
    assert config.learning_rate(700) == 0


def test_gptj_is_the_published_closed_form() -> None:
    config = schedule.gptj()
    for step in (0, 1, 1_500, 2_999, 3_000, 3_001, 77_777, 153_000, 302_999, 303_000, 383_500):
        warmup = min(step, 3_000) / 3_000
        annealed = min(max(step - 3_000, 0), 300_000) / 300_000
        expected = warmup * 1.2e-4 - (1.2e-4 - 1.2e-5) * (1 - math.cos(math.pi * annealed)) / 2
        assert config.learning_rate(step) == pytest.approx(expected, rel=1e-9, abs=1e-18)
    assert config.learning_rate(153_000) == pytest.approx(6.6e-5)


def test_a_constant_schedule_warms_up_and_stays() -> None:
    config = ScheduleConfig(kind="constant", peak=0.5, warmup_steps=2)
    assert [config.learning_rate(step) for step in (0, 1, 2, 10_000)] == [0.0, 0.25, 0.5, 0.5]


def test_without_a_warmup_the_first_step_is_taken_at_the_peak() -> None:
    for kind in ("cosine", "linear", "constant"):
        assert ScheduleConfig(kind=kind, peak=0.5, decay_steps=10).learning_rate(0) == 0.5


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"peak": 1e-5, "floor": 1e-4}, "floor=0.0001"),
        ({"peak": 0.0}, "peak=0.0"),
        ({"warmup_steps": -1}, "warmup_steps=-1"),
        ({"decay_steps": 0}, "decay_steps=0"),
    ],
)
def test_a_schedule_that_cannot_be_meant_is_refused_with_its_value(values: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        ScheduleConfig(**values)
