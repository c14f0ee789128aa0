"""A real MLflow store on SQLite, laid out as pipelines lay it out, and an empty one."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace import tracking

BEGAN_MS = 1_767_225_600_000  # 2026-01-01 00:00:00 UTC
RULES = (
    {
        "name": "beats champion",
        "passed": True,
        "reason": "facts/exact_match differs from champion's by +0.35 (+0.3 to +0.4), *p = 0.0004*.",
        "numbers": {"difference": 0.35, "low": 0.3, "high": 0.4, "p_value": 0.0004, "n": 400.0, "alpha": 0.05},
    },
    {
        "name": "floor",
        "passed": True,
        "reason": "facts/exact_match is 0.8725 ± 0.017; at least 0.8 is asked for.",
        "numbers": {"value": 0.8725, "floor": 0.8},
    },
)


class Store:
    """Writes runs and versions by the names of the layout, spelled out here once more."""

    def __init__(self, experiment: str) -> None:
        self.client, self.experiment = tracking.client(), experiment

    def run(
        self, name: str, tags: dict[str, str], begins: float, seconds: float | None, status: str = "FINISHED"
    ) -> str:
        """A run that begins and lasts so many seconds; None leaves it running."""
        start = BEGAN_MS + round(1000 * begins)
        made = self.client.create_run(self.experiment, start_time=start, tags=tags, run_name=name)
        if seconds is not None:
            self.client.set_terminated(made.info.run_id, status, start + round(1000 * seconds))
        return str(made.info.run_id)

    def pipeline(self, name: str, begins: float, seconds: float | None, status: str = "FINISHED") -> str:
        """The parent run of a whole pipeline."""
        tags = {"headrace.pipeline": "end_to_end", "headrace.recipe": "demo", "headrace.pipeline_run_id": name}
        return self.run(name, tags, begins, seconds, status)

    def stage(
        self, parent: str, name: str, begins: float, seconds: float, status: str = "FINISHED", **more: str
    ) -> str:
        """The nested run of one task."""
        marks = {f"headrace.{key}": value for key, value in more.items()}
        tags = {"mlflow.parentRunId": parent, "headrace.stage": name, "headrace.cached": "false", **marks}
        return self.run(f"run of {name}", tags, begins, seconds, status)

    def metric(self, run_id: str, name: str, values: list[float]) -> None:
        """Values of a metric at steps 10, 20, 30 …"""
        for at, value in enumerate(values, start=1):
            self.client.log_metric(run_id, name, value, step=10 * at)

    def version(self, model: str, run_id: str, checkpoint: str, evidence: dict[str, Any] | None) -> str:
        """A registered version; without evidence, one that no pipeline promoted."""
        tags = {"headrace.checkpoint": checkpoint}
        if evidence:
            tags |= {"headrace.verdict": "5" * 64, "headrace.evidence": json.dumps(evidence)}
            tags |= {"headrace.promoted_at": "2026-01-01T00:08:00Z", "headrace.replaced": ""}
        return str(self.client.create_model_version(model, "checkpoint", run_id, tags=tags).version)


def verdict(model: str, candidate: str, champion: str | None) -> dict[str, Any]:
    return {"passed": True, "candidate": candidate, "champion": champion, "model": model, "rules": list(RULES)}


def fill(store: Store) -> None:
    """A first run, a second one that the cache answered half of and that failed, and a third under way."""
    first = store.pipeline("first-run", begins=0, seconds=480)
    pretrained = store.stage(first, "pretrain", begins=10, seconds=150, digest="a1" * 32)
    store.metric(pretrained, "loss", [6.5, 4.0, 3.1])
    store.metric(pretrained, "tokens_per_second", [9000.0, 9100.0, 9200.0])
    store.stage(first, "gather", begins=0, seconds=9.5)
    evaluated = store.stage(first, "evaluate", begins=170, seconds=40)
    store.client.log_metric(evaluated, "facts_heldout/exact_match", 0.8725)
    second = store.pipeline("second-run", begins=1000, seconds=75, status="FAILED")
    store.stage(second, "pretrain", begins=1001, seconds=0.1, cached="true", computed_by=pretrained)
    store.stage(second, "evaluate", begins=1002, seconds=60, status="FAILED")
    store.pipeline("third-run", begins=2000, seconds=None)
    for name in ("demo", "gptjt-6b"):
        store.client.create_registered_model(name)
    store.version("demo", evaluated, "c1" * 32, verdict("demo", "c1" * 32, None))
    store.version("demo", evaluated, "c2" * 32, verdict("demo", "c2" * 32, "c1" * 32))
    store.client.set_registered_model_alias("demo", "previous", "1")
    store.client.set_registered_model_alias("demo", "champion", "2")
    store.version("gptjt-6b", evaluated, "d1" * 32, None)


def connect(database: Path) -> None:
    """Point this process at a store, as the console finds it."""
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{database}"
    tracking.client.cache_clear()


@pytest.fixture(autouse=True)
def elsewhere_afterwards() -> Iterator[None]:
    """Leave the environment and the client as they were."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", "")
        yield
    tracking.client.cache_clear()


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, which take seconds to make."""
    database = tmp_path_factory.mktemp("blank") / "mlflow.db"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", "")
        connect(database)
        tracking.client().search_registered_models()
    return database


@pytest.fixture(scope="session")
def filled(blank: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with runs and versions in it."""
    database = Path(shutil.copy(blank, tmp_path_factory.mktemp("filled")))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", "")
        connect(database)
        store = Store(tracking.client().create_experiment("headrace", artifact_location=database.parent.as_uri()))
        fill(store)
    return database


@pytest.fixture
def empty_store(blank: Path, tmp_path: Path) -> None:
    """A store that nobody has written to."""
    connect(Path(shutil.copy(blank, tmp_path)))


@pytest.fixture
def store(filled: Path, tmp_path: Path) -> Store:
    """A store of this test's own, filled."""
    connect(Path(shutil.copy(filled, tmp_path)))
    return Store(tracking.client().get_experiment_by_name("headrace").experiment_id)
