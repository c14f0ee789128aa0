import base64
import http.server
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace import mlflow_server as server_module
from headrace import status, tracking
from headrace.errors import UnavailableError
from headrace.tracking import client, task

SECRET = "s3cr3t/p@ss"
WITH_SECRET = "http://me:s3cr3t%2Fp%40ss@127.0.0.1:{port}"


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        yield deaf.getsockname()[1]


def test_a_server_that_does_not_answer_is_named_in_seconds_without_its_password(
    mlflow_store: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(status.STATUS, str(mlflow_store / "status.json"))
    monkeypatch.setattr(status, "_said", {})
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", WITH_SECRET.format(port=closed_port))
    client.cache_clear()
    began = time.monotonic()
    with caplog.at_level(logging.DEBUG), pytest.raises(UnavailableError) as caught, task({"seed": 1}):
        pass
    assert time.monotonic() - began < 8
    told = str(caught.value)
    assert told.startswith(f"MLflow at http://127.0.0.1:{closed_port} does not answer (")
    assert told.endswith("Start it or set MLFLOW_TRACKING_URI.")
    said = (mlflow_store / "status.json").read_text()
    assert json.loads(said)["error"] == {"message": told, "exit_code": 1, "known": True}
    causes = repr(caught.value.__cause__) + str(caught.value.__cause__)
    for text in (told, said, caplog.text, causes):
        assert "\n" not in text or text is not told
        assert "s3cr3t" not in text


def test_a_silent_server_is_named_too(mlflow_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(server_module.IMPATIENT, "MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        client.cache_clear()
        began = time.monotonic()
        with pytest.raises(UnavailableError, match="does not answer"):
            tracking.experiment_id()
        assert time.monotonic() - began < 8


@pytest.mark.parametrize(
    "uri", ["sqlite:////proc/nowhere/mlflow.db", "ftp://me:s3cr3t@host/x", "postgresql://me:s3cr3t@"]
)
def test_a_store_that_cannot_be_had_is_named(mlflow_store: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client.cache_clear()
    with pytest.raises(UnavailableError, match=r"^MLflow at [^\n]* does not answer \([^\n]*$") as caught:
        client()
    assert "s3cr3t" not in str(caught.value)


def test_credentials_in_the_address_reach_the_server_and_nobody_else(
    mlflow_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    class Listening(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization"))
            body = json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"}).encode()
            self.send_response(404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listening)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", WITH_SECRET.format(port=listener.server_port))
    client.cache_clear()
    client()
    listener.shutdown()
    assert base64.b64decode(seen[0].removeprefix("Basic ")).decode() == f"me:{SECRET}"
    assert tracking.tracking_uri() == f"http://127.0.0.1:{listener.server_port}"
    assert "s3cr3t" not in os.environ["MLFLOW_TRACKING_URI"]


def test_the_store_lies_at_home_unless_the_environment_names_another(
    mlflow_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert tracking.tracking_uri() == f"sqlite:///{mlflow_store}/mlflow.db"
    place = client().get_experiment(tracking.experiment_id()).artifact_location
    assert place == f"file://{mlflow_store}/mlartifacts"
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it for the processes it starts
    monkeypatch.delenv("HEADRACE_HOME")
    monkeypatch.chdir(mlflow_store)
    assert tracking.tracking_uri() == f"sqlite:///{mlflow_store}/.headrace/mlflow.db"


def test_a_refusal_passes_as_mlflow_raised_it(mlflow_store: Path) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException) as caught:
        client().get_run("0" * 32)
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
