"""MLflow stores on SQLite, and a server in a process of its own."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.data.loader import LoaderConfig, SourceConfig
from headrace.models.gptj import GPTJConfig
from headrace.training.config import TrainConfig
from tests import postgres
from tests.processes import free_port


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store nobody has written to; laying out its tables takes seconds, so it is done once and copied."""
    import mlflow

    database = tmp_path_factory.mktemp("empty") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{database}", f"sqlite:///{database}").search_experiments()
    return database


@pytest.fixture
def mlflow_store(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty store that the environment names, as `mlflow.db` in the directory given."""
    from headrace.tracking import client

    # The last two are set by whoever names a user within the server's address.
    tasks = ("MLFLOW_RUN_ID", "HEADRACE_PIPELINE_RUN", "HEADRACE_STAGE", "HEADRACE_STATUS")
    for name in (*tasks, "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    client.cache_clear()
    yield tmp_path
    client.cache_clear()


class Server:
    """`mlflow server` on a port of its own, which can be killed and started again on the same store."""

    def __init__(self, folder: Path, store: str = "") -> None:
        self.folder = folder
        self.store = store or f"sqlite:///{folder}/mlflow.db"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        arguments = ["--backend-store-uri", self.store, "--workers", "1"]
        arguments += ["--artifacts-destination", str(self.folder / "artifacts"), "--port", str(self.port)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *arguments],
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=5).close()
                return
            except OSError:
                assert self.process.poll() is None, "the server has ended"
                time.sleep(0.1)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it be silent for a while."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGCONT)


@pytest.fixture(scope="session")
def running_server(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copyfile(empty_database, folder / "mlflow.db")
    server = Server(folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def running_on_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with postgres.running() as store:
        server = Server(tmp_path_factory.mktemp("server-on-postgres"), store)
        server.start()
        yield server
        server.kill()


@pytest.fixture
def mlflow_server(mlflow_store: Path, running_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A living MLflow server that the environment names; all tests share what it stores."""
    from headrace.tracking import client

    if running_server.process is None:
        running_server.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", running_server.url)
    client.cache_clear()
    return running_server


@pytest.fixture(scope="session")
def emulator() -> Iterator[str]:
    """A bucket `b` of Cloud Storage, in this process."""
    from gcp_storage_emulator.server import create_server

    server = create_server("localhost", 0, in_memory=True, default_bucket="b")
    server.start()
    yield f"http://localhost:{server._api._httpd.socket.getsockname()[1]}"
    server.stop()


@pytest.fixture
def bucket(emulator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A prefix of its own for each test, spelled as users do."""
    from headrace import buckets

    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator)
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    buckets._client.cache_clear()
    yield f"gs://b/{tmp_path.name}"
    buckets._client.cache_clear()


@pytest.fixture(scope="session")
def make_train() -> Any:
    """Makes a small configuration; keyword arguments change its model, `rows`, `context`, or the rest."""

    def make(*, rows: int = 4, context: int = 64, **changes: Any) -> TrainConfig:
        shape = {"vocab_size": 320, "n_layer": 3, "d_model": 64, "n_head": 4, "d_ff": 256, "rotary_dim": 8}
        shape |= {name: changes.pop(name) for name in [*changes] if name in shape}
        given = {"steps": 10, "microbatch_rows": rows, **changes}
        return TrainConfig(
            model=GPTJConfig(**shape, context_tokens=context),
            data=LoaderConfig(context_tokens=context, rows=rows, sources={"text": SourceConfig()}),
            **given,
        )

    return make


@pytest.fixture
def flex_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take FlexAttention's check away: what has no gradient on a CPU is the kernel; its definition has one."""
    monkeypatch.setattr("torch.nn.attention.flex_attention._validate_device", lambda *_: None)
