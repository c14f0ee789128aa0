"""What a step may say about itself while it works."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Tracker:
    """Where a step reports to; this base class swallows everything, for tests and scripts."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Record what was asked for."""

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record what was measured."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Mark the run."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Keep a file with the run."""

    def progress(self, text: str, fraction: float | None = None) -> None:
        """Say how far the step is, `fraction` between 0 and 1."""

    def machine(self) -> Mapping[str, float]:
        """What the machine is doing now, by the names of MLflow's system metrics."""
        return {}
