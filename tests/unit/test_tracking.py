import base64
import concurrent.futures
import contextlib
import http.server
import json
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headrace import mlflow_server as server_module
from headrace import status, storage, tracking
from headrace.artifacts import Corpus
from headrace.errors import ConfigError, DataError, HeadraceError, Interrupted, UnavailableError
from headrace.tracking import TaskRun, Tracker, client, task

SECRET = "s3cr3t/p@ss"
WITH_SECRET = "http://me:s3cr3t%2Fp%40ss@127.0.0.1:{port}"


def runs(pipeline_run: str) -> list[Any]:
    """Every run of a pipeline run, the parent first."""
    found = client().search_runs([tracking.experiment_id()], f"tags.`{tracking.RUN_TAG}` = '{pipeline_run}'")
    return sorted(found, key=lambda run: tracking.PARENT_TAG in run.data.tags)


def run_of(run_id: str) -> Any:
    return client().get_run(run_id)


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


def test_tasks_are_nested_under_one_parent_for_each_pipeline_run(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = tracking.parent_run(place, {"headrace.recipe": "demo"})
    for stage in ("prepare", "pretrain"):
        monkeypatch.setenv(tracking.STAGE, stage)
        with task({"seed": 1}) as run:
            assert run_of(run.run_id).info.status == "RUNNING"
    cached = tracking.record_cached(place, "evaluate", run.run_id)
    assert tracking.close_pipeline(place, "FINISHED") == 0
    parent, *nested = runs(place)
    assert (parent.info.run_id, parent.info.run_name, parent.info.status) == (opened, place, "FINISHED")
    assert parent.data.tags["headrace.recipe"] == "demo"
    assert {child.data.tags[tracking.PARENT_TAG] for child in nested} == {opened}
    told = {child.info.run_name: child.data.tags["headrace.cached"] for child in nested}
    assert told == {"prepare": "false", "pretrain": "false", "evaluate": "true"}
    assert {child.info.status for child in nested} == {"FINISHED"}
    assert run_of(cached).data.tags["headrace.computed_by"] == run.run_id
    assert status.read(Path(os.environ[status.STATUS]))["run_id"] == run.run_id


def test_tasks_that_begin_together_keep_one_parent(mlflow_store: Path) -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        made = set(pool.map(tracking.parent_run, ["together"] * 4))
    kept = tracking.parent_run("together")
    assert kept in made
    runs = client().search_runs([tracking.experiment_id()], f"tags.`{tracking.RUN_TAG}` = 'together'")
    assert [run.info.run_id for run in runs] == [kept]


def test_another_pipeline_run_has_another_parent(pipeline: str) -> None:
    assert tracking.parent_run("a") == tracking.parent_run("a") != tracking.parent_run("b")


def test_the_parent_is_found_among_any_number_of_tasks(pipeline: str) -> None:
    parent = tracking.parent_run(pipeline)
    tags = {tracking.RUN_TAG: pipeline, tracking.PARENT_TAG: parent}
    for n in range(52):
        client().create_run(tracking.experiment_id(), run_name=f"shard {n}", tags=tags)
    assert tracking.parent_run(pipeline) == parent
    assert tracking.close_pipeline(pipeline, "FAILED") == 52
    assert run_of(parent).info.status == "FAILED"


def test_what_was_asked_and_measured_is_recorded(place: str) -> None:
    wide = {f"layer{n}": n for n in range(250)}
    config = {"model": {"wide": wide, "mask": "prefix"}, "betas": [0.9, 0.95], "long": "x" * 9000, "none": None}
    inputs = {"tokens": SimpleNamespace(metadata={"digest": "d" * 64}, uri="gs://b/tokens")}
    with task(config, inputs) as run:
        run.metrics({"loss": 3.5, "perplexity": float("nan")}, step=10)
        run.metrics({"loss": 2}, step=20)
        run.metrics({f"task/{n}": n / 7 for n in range(230)})
        run.tags({"headrace.note": "y" * 9000})
    found = run_of(run.run_id)
    assert found.data.params["model.mask"] == "prefix"
    assert {key: value for key, value in found.data.params.items() if "wide" in key} == {
        f"model.wide.layer{n}": str(n) for n in range(250)
    }
    assert (found.data.params["betas"], found.data.params["none"]) == ("[0.9, 0.95]", "None")
    assert found.data.params["long"] == "x" * 6000
    assert found.data.tags["headrace.note"] == "y" * 8000
    loss = [(point.step, point.value) for point in client().get_metric_history(run.run_id, "loss")]
    assert loss == [(10, 3.5), (20, 2.0)]
    assert found.data.metrics["perplexity"] != found.data.metrics["perplexity"]
    assert [found.data.metrics[f"task/{n}"] for n in (0, 229)] == [0, 229 / 7]
    (used,) = found.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest, used.dataset.source) == ("tokens", "d" * 36, "gs://b/tokens")
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "tokens")]


def test_an_output_is_told_to_kfp_to_mlflow_and_to_the_runner(pipeline: str, tmp_path: Path) -> None:
    with storage.writing(tmp_path / "out") as tree:
        manifest = tree.commit(Corpus(documents=7, sources={"mill": 7}))
    output = SimpleNamespace(metadata={}, uri=str(tmp_path / "out"))
    with task() as run:
        run.made(output, manifest, "7 documents")
        (tmp_path / "report.txt").write_text("fine")
        run.artifact(tmp_path / "report.txt", "reports")
        run.progress("half", 0.5)
    assert output.metadata == {"digest": manifest.digest, "kind": "corpus", "documents": 7}
    tags = run_of(run.run_id).data.tags
    assert (tags["headrace.digest"], tags["headrace.uri"]) == (manifest.digest, str(tmp_path / "out"))
    assert [file.path for file in client().list_artifacts(run.run_id, "reports")] == ["reports/report.txt"]
    said = status.read(tmp_path / "status.json")
    assert (said["headline"], said["digest"], said["run_id"]) == ("7 documents", manifest.digest, run.run_id)


def test_a_run_that_kfp_has_made_is_adopted_and_left_open(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = str(client().create_run(tracking.experiment_id(), run_name="theirs").info.run_id)
    monkeypatch.setenv("MLFLOW_RUN_ID", theirs)
    before = len(client().search_runs([tracking.experiment_id()], max_results=1000))
    with task({"seed": 1}) as run:
        run.metrics({"loss": 1.0})
    with pytest.raises(DataError), task():
        raise DataError("broken")
    assert run.run_id == theirs
    assert run_of(theirs).info.status == "RUNNING"
    assert (run_of(theirs).data.params, run_of(theirs).data.metrics) == ({"seed": "1"}, {"loss": 1.0})
    assert len(client().search_runs([tracking.experiment_id()], max_results=1000)) == before


def test_an_adopted_run_that_is_not_there_is_named(pipeline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(ConfigError, match=r"^MLFLOW_RUN_ID='0+' is no run at sqlite:.*Unset it\.$"), task():
        pass


@pytest.mark.parametrize(
    ("error", "ends", "code"),
    [
        (DataError("line 3 is\nbroken"), "FAILED", 2),
        (ValueError("x"), "FAILED", 1),
        (KeyboardInterrupt(), "KILLED", 1),
        (Interrupted("Stopped after step 7."), "KILLED", 143),
    ],
)
def test_an_error_ends_the_run_and_reaches_the_runner(place: str, error: BaseException, ends: str, code: int) -> None:
    with pytest.raises(type(error)), task() as run:
        raise error
    assert run_of(run.run_id).info.status == ends
    said = status.read(Path(os.environ[status.STATUS]))["error"]
    assert (said["exit_code"], said["known"]) == (code, isinstance(error, HeadraceError))
    assert "\n" not in said["message"]


def test_a_task_without_a_pipeline_has_a_parent_that_ends_with_it(
    mlflow_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parents = []
    for outcome in ("FINISHED", "FAILED"):
        try:
            with task() as run:
                assert outcome == "FINISHED"
        except AssertionError:
            pass
        parent = run_of(run_of(run.run_id).data.tags[tracking.PARENT_TAG])
        assert (parent.info.status, run_of(run.run_id).info.status) == (outcome, outcome)
        parents.append(parent.info.run_id)
    assert len(set(parents)) == 2


def begin_and_die() -> None:
    client.cache_clear()
    with task({"seed": 1}) as run:
        run.metrics({"loss": 5.0}, step=1)
        os.kill(os.getpid(), signal.SIGKILL)


def test_closing_a_pipeline_ends_what_a_killed_task_left(place: str) -> None:
    process = multiprocessing.get_context("fork").Process(target=begin_and_die, daemon=True)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    parent, left = runs(place)
    assert (parent.info.status, left.info.status) == ("RUNNING", "RUNNING")
    assert tracking.close_pipeline(place, "FAILED") == 1
    parent, left = runs(place)
    assert (parent.info.status, left.info.status, left.data.metrics["loss"]) == ("FAILED", "KILLED", 5.0)
    assert tracking.close_pipeline(place, "FAILED") == 0


def test_what_mlflow_refuses_does_not_hold_up_the_rest(pipeline: str, caplog: pytest.LogCaptureFixture) -> None:
    with task({"seed": 1}) as run:
        run.params({"seed": 2, "a": 1, "bad\nname": 3, "b" * 300: 4, "c": 5})
        run.metrics({"loss": 1.0, "bad\nname": 2.0})
        run.metrics({"loss": 0.5}, step=1)
    found = run_of(run.run_id)
    assert found.data.params == {"seed": "1", "a": "1", "c": "5"}
    assert found.data.metrics == {"loss": 0.5}
    assert found.info.status == "FINISHED"
    assert caplog.text.count("MLflow refused") == 4


@pytest.fixture
def server(pipeline: str, mlflow_server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server that tests may stop, kill and start; a stopped one is given up on within a second."""
    monkeypatch.setitem(server_module.IMPATIENT, "MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    for name in server_module.PATIENT:
        monkeypatch.setenv(name, "1")
    client()
    return mlflow_server


def loss_of(run: TaskRun) -> dict[int, float]:
    return {point.step: point.value for point in client().get_metric_history(run.run_id, "loss")}


def test_metrics_of_a_killed_server_are_sent_when_it_is_back(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    with task({"seed": 1}) as run:
        run.metrics({"loss": 3.0}, step=1)
        server.kill()
        began = time.monotonic()
        for step in range(2, 30):
            run.metrics({"loss": 3.0 / step}, step=step)
        assert time.monotonic() - began < 15, "training waits for nobody"
        assert caplog.text.count("kept for later") == 1
        restarted = threading.Timer(0.5, server.start)
        restarted.start()
    restarted.join()
    assert loss_of(run) == {step: 3.0 / step for step in range(1, 30)}
    assert run_of(run.run_id).info.status == "FINISHED"


def test_metrics_are_sent_during_the_task_once_a_silent_server_had_its_pause(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "AWAY_SECONDS", 0)
    with task() as run:
        with server.stopped():
            run.metrics({"loss": 2.0}, step=1)
        run.metrics({"loss": 1.0}, step=2)
        assert loss_of(run) == {1: 2.0, 2: 1.0}


def test_a_server_that_stays_silent_does_not_undo_a_finished_task(
    server: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracking, "FAREWELL_SECONDS", 1)
    with contextlib.ExitStack() as stack:
        with task() as run:
            stack.enter_context(server.stopped())
        assert "the run stays open" in caplog.text
        with pytest.raises(UnavailableError), task():
            pass
        assert "does not answer" in status.read(Path(os.environ[status.STATUS]))["error"]["message"]
    assert run_of(run.run_id).info.status == "RUNNING"


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        yield deaf.getsockname()[1]


def test_a_server_that_does_not_answer_is_named_in_seconds_without_its_password(
    pipeline: str, closed_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
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
    said = (Path(os.environ["HEADRACE_HOME"]) / "status.json").read_text()
    assert json.loads(said)["error"] == {"message": told, "exit_code": 1, "known": True}
    causes = repr(caught.value.__cause__) + str(caught.value.__cause__)
    for text in (told, said, caplog.text, causes):
        assert "\n" not in text or text is not told
        assert "s3cr3t" not in text


def test_a_silent_server_is_named_too(pipeline: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_store_that_cannot_be_had_is_named(pipeline: str, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client.cache_clear()
    with pytest.raises(UnavailableError, match=r"^MLflow at [^\n]* does not answer \([^\n]*$") as caught:
        client()
    assert "s3cr3t" not in str(caught.value)


def test_credentials_in_the_address_reach_the_server_and_nobody_else(
    pipeline: str, monkeypatch: pytest.MonkeyPatch
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


def test_a_deleted_experiment_is_told_with_the_way_back(mlflow_store: Path) -> None:
    client().delete_experiment(tracking.experiment_id())
    with pytest.raises(UnavailableError, match="mlflow experiments restore --experiment-id"):
        tracking.parent_run("run-2")


def test_a_refusal_passes_as_mlflow_raised_it(mlflow_store: Path) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException) as caught:
        client().get_run("0" * 32)
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_who_the_parent_is_never_comes_from_the_tasks_own_inputs(
    pipeline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same call with the same arguments goes where the environment says: cache keys stay the same."""
    arguments: dict[str, Any] = {"config": {"seed": 1}, "inputs": {}}
    parents = []
    for name in ("first", "second"):
        monkeypatch.setenv(tracking.PIPELINE_RUN, name)
        with task(**arguments) as run:
            parents.append(run_of(run.run_id).data.tags[tracking.PARENT_TAG])
    assert parents == [tracking.parent_run("first"), tracking.parent_run("second")]


def test_the_machine_is_told_by_mlflows_own_names(pipeline: str) -> None:
    with tracking.task() as run:
        first, again = run.machine(), run.machine()
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= first.keys()
    assert first.keys() == again.keys()
    assert 0 < again["system/system_memory_usage_percentage"] < 100


def test_the_null_tracker_swallows_everything(tmp_path: Path) -> None:
    tracker = Tracker()
    tracker.params({"a": {"b": 1}})
    tracker.metrics({"loss": 1.0}, step=3)
    tracker.artifact(tmp_path)
    tracker.progress("half", 0.5)


def test_flattening_keeps_every_leaf_under_its_path() -> None:
    nested = {"a": {"b": {"c": 1}, "d": [1, {"e": 2}]}, "f": None, "g": {}}
    assert tracking.flatten(nested) == {"a.b.c": 1, "a.d": [1, {"e": 2}], "f": None}


def test_workspaces_lie_at_home_unless_a_volume_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.delenv("HEADRACE_WORK", raising=False)
    assert tracking.workspace() == tmp_path / "work"
    monkeypatch.setenv("HEADRACE_WORK", "/volume")
    assert tracking.workspace() == Path("/volume")
