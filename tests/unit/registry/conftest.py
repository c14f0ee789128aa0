"""A real MLflow store and somebody who acts in it."""

from pathlib import Path

import pytest

from tests.candidates import Candidates


@pytest.fixture
def candidates(mlflow_store: Path, monkeypatch: pytest.MonkeyPatch) -> Candidates:
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    monkeypatch.setenv("HEADRACE_USER", "ada")
    return Candidates(mlflow_store)
