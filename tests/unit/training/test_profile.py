import json
from pathlib import Path

import pytest
import torch

from headrace.errors import ConfigError
from headrace.tracking import Tracker
from headrace.training.profile import TABLE_FILE, TRACE_FILE, Profile, profiled_steps
from headrace.training.step import StepResult


class Keeper(Tracker):
    def __init__(self) -> None:
        self.kept: list[str] = []

    def artifact(self, path: Path, folder: str = "") -> None:
        self.kept.append(f"{folder}/{path.name}")


def run(profile: Profile, first: int, last: int) -> None:
    """Steps of as many rows as their number, so that the trace tells them apart."""
    for step in range(first, last + 1):
        torch.mm(torch.ones(step, 7), torch.ones(7, 3))
        profile.after_step(StepResult(step=step, loss=1.0, grad_norm=1.0, learning_rate=0.1, labels=1, tokens=1))
    profile.close()


def products(folder: Path) -> int:
    events = json.loads((folder / TRACE_FILE).read_text())["traceEvents"]
    return sum(event.get("name") == "aten::mm" for event in events)


@pytest.mark.parametrize(("steps", "taken", "expected"), [((2, 4), 0, 3), ((1, 2), 0, 2), ((5, 9), 4, 2)])
def test_the_steps_asked_for_are_in_the_trace(
    steps: tuple[int, int], taken: int, expected: int, tmp_path: Path
) -> None:
    keeper = Keeper()
    run(Profile(steps, tmp_path, keeper, taken), taken + 1, 6)
    assert products(tmp_path) == expected
    assert "aten::mm" in (tmp_path / TABLE_FILE).read_text()
    assert keeper.kept == [f"profile/{TRACE_FILE}", f"profile/{TABLE_FILE}"]


def test_steps_that_are_behind_are_not_profiled(tmp_path: Path) -> None:
    run(Profile((1, 2), tmp_path, Keeper(), 3), 4, 5)
    assert not list(tmp_path.iterdir())


def test_the_environment_names_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADRACE_PROFILE", raising=False)
    assert profiled_steps() is None
    for text, expected in (("3", (3, 3)), ("10-12", (10, 12))):
        monkeypatch.setenv("HEADRACE_PROFILE", text)
        assert profiled_steps() == expected
    for text in ("0-3", "5-4", "a few"):
        monkeypatch.setenv("HEADRACE_PROFILE", text)
        with pytest.raises(ConfigError, match=f"HEADRACE_PROFILE='{text}' names no steps. Write FIRST-LAST"):
            profiled_steps()
