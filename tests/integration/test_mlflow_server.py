"""The MLflow Deployment's own command line, started on this machine with a SQLite file for its database."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.processes import free_port

MANIFEST = Path(__file__).parents[2] / "k8s" / "base" / "mlflow.yaml"


def container() -> dict[str, Any]:
    documents = yaml.safe_load_all(MANIFEST.read_text())
    deployment = next(document for document in documents if document["kind"] == "Deployment")
    return dict(deployment["spec"]["template"]["spec"]["containers"][0])


def ask(url: str, host: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Host": host, "Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def wait_until_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    path = container()["readinessProbe"]["httpGet"]["path"]
    for _ in range(600):
        try:
            # The kubelet asks by the pod's address, which is in no list of names.
            if ask(f"{url}{path}", "pod.invalid:5000")[0] == 200:
                return
        except OSError:
            assert process.poll() is None, "the server has ended"
        time.sleep(0.2)
    raise AssertionError("the server did not become healthy")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port, settings = tmp_path_factory.mktemp("mlflow"), free_port(), container()
    values = {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": "gs://b/mlflow",
    }
    given = {entry["name"]: entry.get("value") or values[entry["name"]] for entry in settings["env"]}
    arguments = [argument for argument in settings["args"] if not argument.startswith(("--host", "--port"))]
    process = subprocess.Popen(
        [sys.executable, "-m", *settings["command"], *arguments, "--host=127.0.0.1", f"--port={port}"],
        env={**os.environ, **given, "HOME": str(folder)},
        cwd=folder,
        start_new_session=True,
    )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def test_server_answers_to_its_names_in_the_cluster_and_to_no_other(server: str) -> None:
    for host in ("mlflow:5000", "mlflow.headrace.svc.cluster.local:5000", "localhost:15000"):
        assert ask(f"{server}/api/2.0/mlflow/experiments/search", host, {"max_results": 5})[0] == 200
    assert ask(f"{server}/api/2.0/mlflow/experiments/search", "mlflow.attacker.example:5000", {})[0] == 403


def test_artifacts_go_to_the_bucket_and_not_through_the_server(server: str) -> None:
    created = ask(f"{server}/api/2.0/mlflow/experiments/create", "mlflow:5000", {"name": "headrace"})
    found = ask(
        f"{server}/api/2.0/mlflow/experiments/get?experiment_id={json.loads(created[1])['experiment_id']}",
        "mlflow:5000",
    )
    assert json.loads(found[1])["experiment"]["artifact_location"].startswith("gs://b/mlflow/")
    assert ask(f"{server}/api/2.0/mlflow-artifacts/artifacts?path=", "mlflow:5000")[0] == 503
