"""What a run came to, for scripts: ids, stages, artifacts, metrics, verdict."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace import storage
from headrace.artifacts import EvalReport, Verdict
from headrace.cli.stages import Board, Stage
from headrace.config import encode
from headrace.errors import HeadraceError, shown
from headrace.tracking import tracking_uri


def collect(run_id: str, parent: str, about: Mapping[str, Any], board: Board, seconds: float) -> dict[str, Any]:
    """Gather everything known of a run as JSON values.

    Args:
        run_id: The pipeline run.
        parent: Its MLflow run.
        about: Pipeline, recipe, arguments and status.
        board: Its stages.
        seconds: How long it took.
    """
    facts = {
        (stage.name, name): _facts(artifact["uri"])
        for stage in board.stages.values()
        for name, artifact in stage.artifacts.items()
    }
    reports = {stage: fact for (stage, _), fact in facts.items() if isinstance(fact, EvalReport)}
    verdict = next((fact for fact in facts.values() if isinstance(fact, Verdict)), None)
    return {
        "run_id": run_id,
        **about,
        "seconds": round(seconds, 3),
        "mlflow": {"tracking_uri": shown(tracking_uri()), "run_id": parent},
        "stages": [_stage(stage) for stage in board.stages.values()],
        "metrics": {stage: encode(report.metrics) for stage, report in reports.items()},
        "verdict": encode(verdict) if verdict else None,
        "facts": {f"{stage}/{name}": encode(fact) for (stage, name), fact in facts.items() if fact},
    }


def _facts(uri: str) -> Any:
    try:
        return storage.read_manifest(uri).facts
    except HeadraceError:
        return None


def _stage(stage: Stage) -> dict[str, Any]:
    return {
        "name": stage.name,
        "state": stage.state,
        "seconds": round(stage.seconds, 3),
        "headline": stage.text,
        "mlflow_run_id": stage.run_id,
        "artifacts": stage.artifacts,
        "log": stage.log,
        "error": stage.error or None,
        "note": stage.note,
    }


def write(told: Mapping[str, Any], *places: Path | None) -> None:
    """Write a run's results to each place that was given."""
    from headrace.cli.run import write_json

    for place in places:
        if place is not None:
            write_json(place, told)
