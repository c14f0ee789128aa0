"""Processes killed while they promote or take back: the registry is as it was before, or as it is after."""

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace import mlflow_server, registry, storage, tracking
from headrace.artifacts import Verdict
from headrace.registry import CHAMPION, PREVIOUS, Version
from tests.candidates import Candidates


def aliases(name: str = "gptj") -> dict[str, int]:
    return {alias: version.number for version in registry.versions(name) for alias in version.aliases}


def champion() -> Version:
    found = registry.champion("gptj")
    assert found is not None
    return found


def promote_and_die(folder: Path, verdict: Path, writes: int) -> None:
    """Promote step 2, and be killed before the given write to MLflow."""
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    tracking.client.cache_clear()
    asked, left = mlflow_server._Asking.__getattr__, [10**6]

    def dying(made: Any, name: str) -> Callable[..., Any]:
        left[0] -= name.startswith(("create_", "delete_", "log_", "set_"))
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return asked(made, name)

    mlflow_server._Asking.__getattr__ = dying  # type: ignore[method-assign]
    run_id = tracking.nested_run("run-2", "promote")
    left[0] = writes
    registry.promote("gptj", str(folder.parent / "checkpoint-2"), str(verdict), run_id=run_id)


def rollback_and_die(folder: Path, _: Path, writes: int) -> None:
    """The same while taking step 2 back."""
    registry.promote = lambda *_, **__: registry.rollback("gptj")  # type: ignore[assignment]
    promote_and_die(folder, folder, writes)


def killed(act: Callable[..., None], folder: Path, verdict: Path, writes: int) -> bool:
    """Whether it was killed before its end."""
    process = multiprocessing.get_context("fork").Process(target=act, args=(folder, verdict, writes), daemon=True)
    process.start()
    process.join(120)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def use_copy(home: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the store for one attempt; nobody has it open when the attempt's process is made."""
    folder = home / name
    folder.mkdir()
    shutil.copyfile(home / "mlflow.db", folder / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    tracking.client.cache_clear()
    return folder


def check_finished_state(first: str, second: str) -> int:
    """The number of the champion, after checking that it and the previous one can be had with all their evidence."""
    now = champion()
    assert now.checkpoint in (first, second)
    for version in (now, registry.resolve("gptj@previous") if PREVIOUS in aliases() else now):
        assert json.loads(version.tags[registry.EVIDENCE])["candidate"] == version.checkpoint
        assert registry.PROMOTED_AT in version.tags and len(version.tags[registry.VERDICT]) == 64
        assert storage.verify(registry.fetch(version)).digest == version.checkpoint
    return now.number


def test_a_promotion_killed_at_any_moment_leaves_the_old_champion_or_the_new_and_is_finished_by_the_next(
    candidates: Candidates, mlflow_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = candidates.promote(1)
    verdict = candidates.verdict(2)
    second = storage.read(verdict, Verdict)
    seen = []

    def attempt(writes: int) -> bool:
        folder = use_copy(mlflow_store, f"attempt-{len(seen)}", monkeypatch)
        was_killed = killed(promote_and_die, folder, verdict, writes)
        seen.append(check_finished_state(first.checkpoint, second.facts.candidate))
        assert was_killed or seen[-1] == 2
        promoted = candidates.promote(2, verdict)
        assert (promoted.version, aliases()) == (2, {PREVIOUS: 1, CHAMPION: 2})
        assert registry.resolve("gptj/2").tags[registry.REPLACED] == "1"
        assert check_finished_state(first.checkpoint, second.facts.candidate) == 2
        return was_killed

    writes = 0
    while attempt(writes):
        writes += 1
    assert {1, 2} <= set(seen) and len(seen) > 8


def test_a_rollback_killed_at_any_moment_is_finished_by_the_next(
    candidates: Candidates, mlflow_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2, 3):
        candidates.promote(step)
    for writes in range(10):
        folder = use_copy(mlflow_store, f"attempt-{writes}", monkeypatch)
        was_killed = killed(rollback_and_die, folder, folder, writes)
        assert champion().number in (2, 3)
        if champion().number == 3:
            registry.rollback("gptj")
        assert aliases() == {PREVIOUS: 1, CHAMPION: 2}
        assert registry.was_rolled_back("gptj", registry.resolve("gptj/3").checkpoint)
        if not was_killed:
            break
    assert not was_killed and writes > 2
