import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from headrace.config import encode
from headrace.errors import ConfigError, TrainingError
from headrace.planner.calibration import ON_CPU, Rates, fit, load, nonnegative_fit, save
from headrace.planner.measure import Measured, measure
from headrace.planner.memory import predict_memory
from headrace.planner.shapes import EMPTY, SHAPES, shape

TRUE = Rates(product_flop=1e-11, attention_flop=2e-11, logit=5e-9, saved_byte=1e-9, touched_weight=2e-9)
PROCESS, FIXED, FACTOR = 300 * 2**20, 40 * 2**20, 1.15
UNSEEN = shape(5000, 5, 320, 384, 6, 3)


def ran(train, noise: float = 1.0) -> Measured:
    """What a machine of known rates and a known allocator would have measured."""
    peak = PROCESS + FIXED + FACTOR * predict_memory(train, ON_CPU).tensors
    seconds = TRUE.seconds(train) * noise
    return Measured(peak_bytes=round(peak), wall_seconds=2 * seconds, core_seconds=seconds, threads=1)


def empty() -> Measured:
    return replace(ran(EMPTY), peak_bytes=PROCESS)


def test_rates_and_memory_of_a_known_machine_are_found_again() -> None:
    found = fit(empty(), SHAPES, [ran(train) for train in SHAPES])
    assert encode(found.rates) == pytest.approx(encode(TRUE), rel=1e-6)
    assert found.apply(predict_memory(UNSEEN, ON_CPU)).total == pytest.approx(ran(UNSEEN).peak_bytes, rel=1e-6)
    assert max(found.memory_error, found.time_error) < 1e-6


def test_runs_that_waver_are_fitted_as_well_as_they_can_be() -> None:
    draw = np.random.default_rng(1)
    found = fit(empty(), SHAPES, [ran(train, draw.uniform(0.95, 1.05)) for train in SHAPES])
    assert 0 < found.time_error < 0.05
    assert found.rates.seconds(UNSEEN) == pytest.approx(ran(UNSEEN).step_seconds, rel=0.1)


def test_no_rate_is_ever_negative() -> None:
    columns = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    found = nonnegative_fit(columns, np.array([3.0, 2.0, 1.0]))
    assert found.tolist() == [pytest.approx(2.0), 0.0]


def test_one_thread_is_timed_by_its_core_and_several_by_the_clock() -> None:
    one = ran(UNSEEN)
    assert one.step_seconds == one.core_seconds
    assert replace(one, threads=2).step_seconds == one.wall_seconds


def test_a_calibration_is_kept_and_used_on_its_own_machine_alone(tmp_path) -> None:
    found = fit(empty(), SHAPES, [ran(train) for train in SHAPES])
    assert load(tmp_path / "calibration.json") is None
    save(found, tmp_path / "calibration.json")
    assert load(tmp_path / "calibration.json") == found
    for change in ({"threads": found.threads + 1}, {"processor": "another"}, {"torch": "1.0"}):
        save(replace(found, **change), tmp_path / "calibration.json")
        assert load(tmp_path / "calibration.json") is None


@pytest.mark.parametrize("text", ["{", json.dumps({"threads": 1})])
def test_a_file_that_is_no_calibration_says_what_to_do(text: str, tmp_path) -> None:
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(ConfigError, match="--calibrate"):
        load(tmp_path / "calibration.json")


def test_a_process_that_takes_steps_holds_itself_and_its_tensors() -> None:
    small, large = (measure(train, steps=2) for train in (EMPTY, shape(2048, 2, 512, 128, 4, 4)))
    tensors = predict_memory(shape(2048, 2, 512, 128, 4, 4), ON_CPU).tensors
    assert 0 < small.core_seconds < large.core_seconds
    assert small.peak_bytes > 150 * 2**20
    assert 0.8 * tensors < large.peak_bytes - small.peak_bytes < 2 * tensors


def test_a_trial_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(TrainingError, match=r"The trial steps failed: exit code 1\."):
        measure(EMPTY)
