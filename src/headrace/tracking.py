"""MLflow runs: one parent per pipeline run, one nested run per task."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Tracker:
    """Where a step reports to; this base class swallows everything, for tests and scripts."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Record what was asked for."""

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record what was measured."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Keep a file with the run."""

    def progress(self, text: str, fraction: float | None = None) -> None:
        """Say how far the step is, `fraction` between 0 and 1."""
