"""Many promotions at once, and acts killed at random, on a real MLflow server.

`HEADRACE_KILLS` says how many acts are killed.
"""

import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace import registry, storage, tracking
from headrace.registry import CHALLENGER, CHAMPION, PREVIOUS
from tests.candidates import Candidates
from tests.promoters import act, processes, promote

PROMOTIONS = 20
KILLS = int(os.environ.get("HEADRACE_KILLS", "6"))
PATIENCE_SECONDS = 120.0


@pytest.fixture(params=["running_server", "running_on_postgres"], ids=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, mlflow_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A living server on each kind of database."""
    server: Any = request.getfixturevalue(request.param)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    monkeypatch.setenv("HEADRACE_USER", "ada")
    tracking.client.cache_clear()
    yield server.url
    tracking.client.cache_clear()


def aliases(name: str) -> dict[str, int]:
    """Where headrace says that they stand."""
    return {alias: version.number for version in registry.versions(name) for alias in version.aliases}


def in_mlflow(name: str) -> dict[str, int]:
    """Where MLflow itself says so."""
    return {alias: int(at) for alias, at in tracking.client().get_registered_model(name).aliases.items()}


def test_of_many_promotions_at_once_one_wins_and_the_others_are_told_who_did(url: str, mlflow_store: Path) -> None:
    candidates, context = Candidates(mlflow_store), processes()
    candidates.promote(100, name="raced")
    verdicts = [candidates.verdict(step, model="raced") for step in range(PROMOTIONS)]
    start = context.Barrier(PROMOTIONS)
    racers = [
        context.Process(target=promote, args=(url, mlflow_store, step, verdict, start, f"user-{step}"))
        for step, verdict in enumerate(verdicts)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(PATIENCE_SECONDS)
        assert racer.exitcode == 0
    said = [json.loads(Path(f"{verdict}.said").read_text()) for verdict in verdicts]

    (winner,) = (step for step, one in enumerate(said) if "version" in one)
    won = said[winner]["version"]
    for one in said[:winner] + said[winner + 1 :]:
        assert one["error"] == "MismatchError", one
        assert f"version {won}, promoted by user-{winner} at " in one["told"]
    found = registry.audit("raced")
    assert [(entry.action, entry.who) for entry in found.entries] == [("promote", "ada"), ("promote", f"user-{winner}")]
    assert found.differences == ()
    assert aliases("raced") == in_mlflow("raced") == {PREVIOUS: 1, CHAMPION: won}
    for version in registry.versions("raced"):
        assert storage.verify(registry.fetch(version)).digest == version.checkpoint


class Killer:
    """Starts acts and kills them at a random moment; checks what is left."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder, self.candidates = url, folder, Candidates(folder)
        self.context, self.pick, self.step = processes(), random.Random(0), 0
        self.whole = PATIENCE_SECONDS
        """How long an act takes here; the first one is left alone to tell."""
        self.outcomes: Counter[str] = Counter()

    def act(self) -> None:
        """One act, killed at a random moment between its beginning and its end."""
        deed, verdict = self._choose()
        before = (aliases("killed"), len(registry.audit("killed").entries))
        was_killed = self._run_and_kill(deed, verdict)
        after, entries = aliases("killed"), registry.audit("killed").entries
        assert len(entries) - before[1] in (0, 1)
        assert after == (before[0] if len(entries) == before[1] else entries[-1].aliases), deed
        assert was_killed or len(entries) > before[1]
        self.outcomes["killed"] += was_killed
        self.outcomes[f"{deed} {'moved' if len(entries) > before[1] else 'did not move'}"] += was_killed
        for version in registry.versions("killed"):
            if set(version.aliases) & {CHAMPION, CHALLENGER}:
                assert storage.verify(registry.fetch(version)).digest == version.checkpoint
                assert json.loads(version.tags[registry.EVIDENCE])["candidate"] == version.checkpoint

    def _choose(self) -> tuple[str, Path]:
        standing = aliases("killed")
        if CHALLENGER in standing:
            return "approve", self.folder
        deed = self.pick.choice(["promote", "propose", *(["rollback"] if PREVIOUS in standing else [])])
        self.step += 1
        approvers = ("ada",) if deed == "propose" else ()
        verdict = (
            self.folder
            if deed == "rollback"
            else self.candidates.verdict(self.step, model="killed", approvers=approvers)
        )
        return deed, verdict

    def _run_and_kill(self, deed: str, verdict: Path) -> bool:
        """Whether it was killed before its end."""
        ready = self.context.Event()
        process = self.context.Process(target=act, args=(self.url, self.folder, deed, self.step, verdict, ready))
        process.start()
        assert ready.wait(PATIENCE_SECONDS)
        began = time.monotonic()
        process.join(self.whole * (self.pick.random() if self.whole < PATIENCE_SECONDS else 1))
        self.whole = min(self.whole, time.monotonic() - began) if self.whole == PATIENCE_SECONDS else self.whole
        process.kill()
        process.join()
        assert process.exitcode in (0, -9)
        return bool(process.exitcode)


def test_acts_killed_at_random_leave_the_registry_before_or_after_them(url: str, mlflow_store: Path) -> None:
    killer = Killer(url, mlflow_store)
    for step in (100, 101):
        killer.candidates.promote(step, name="killed")
    while killer.outcomes["killed"] < KILLS:
        killer.act()
    if CHALLENGER in aliases("killed"):
        registry.reject("killed", "the end")
    registry.settle("killed")
    assert registry.audit("killed").differences == ()
    assert in_mlflow("killed") == aliases("killed")
    print(", ".join(f"{outcome}: {times}" for outcome, times in sorted(killer.outcomes.items())))
