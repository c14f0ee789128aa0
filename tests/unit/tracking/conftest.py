import os
from pathlib import Path
from typing import Any

import pytest

from headrace import mlflow_server as server_module
from headrace import status, tracking
from headrace.tracking import client


@pytest.fixture
def pipeline(mlflow_store: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment of a task, as a runner sets it."""
    monkeypatch.setenv(tracking.PIPELINE_RUN, "run-1")
    monkeypatch.setenv(tracking.STAGE, "pretrain")
    monkeypatch.setenv(status.STATUS, str(mlflow_store / "status.json"))
    monkeypatch.setattr(status, "_said", {})
    return "run-1"


@pytest.fixture(params=["sqlite", "http"])
def place(request: pytest.FixtureRequest, pipeline: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same on a store of its own and on a server; the id of a pipeline run nobody has used."""
    if request.param == "http":
        request.getfixturevalue("mlflow_server")
    name = f"run-{os.urandom(4).hex()}"
    monkeypatch.setenv(tracking.PIPELINE_RUN, name)
    return name


@pytest.fixture
def server(pipeline: str, mlflow_server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server that tests may stop, kill and start; a stopped one is given up on within a second."""
    monkeypatch.setitem(server_module.IMPATIENT, "MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    for name in server_module.PATIENT:
        monkeypatch.setenv(name, "1")
    client()
    return mlflow_server
