"""Approval behind an MLflow server that asks for passwords: `mlflow server --app-name basic-auth`, with real users."""

import base64
import importlib.util
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headrace import mlflow_server, registry
from headrace.cli.app import run_app
from headrace.registry.trail import EXPERIMENT
from tests.candidates import Candidates
from tests.integration.test_mlflow_server import free_port

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("flask_wtf") is None,
    reason="MLflow's basic-auth app needs Flask-WTF, which is not installed: pip install 'mlflow[auth]'.",
)
PASSWORDS = {name: f"secret-word-of-{name}" for name in ("admin", "ada", "ben", "mallory")}
PATIENCE_SECONDS = 60
SETTINGS = """[mlflow]
default_permission = READ
database_uri = sqlite:///{folder}/users.db
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""


@dataclass(frozen=True)
class Server:
    """An MLflow server with users."""

    url: str

    def ask(self, path: str, body: dict[str, Any]) -> None:
        """Post as the administrator."""
        word = base64.b64encode(f"admin:{PASSWORDS['admin']}".encode()).decode()
        headers = {"Authorization": f"Basic {word}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/api/{path}", json.dumps(body).encode(), headers)
        urllib.request.urlopen(request, timeout=30).close()

    def allow(self, user: str, permission: str, kind: str, which: str) -> None:
        what = {"resource_type": kind, "resource_id": which, "permission": permission}
        self.ask("3.0/mlflow/users/permissions/grant", {"username": user, **what})

    def is_up(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("auth")
    (folder / "auth.ini").write_text(SETTINGS.format(folder=folder))
    port = free_port()
    store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", "1", *store]
    settings = {
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORDS["admin"],
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of this test",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "HOME": str(folder),
    }
    environment, log = {**os.environ, **settings}, folder / "server.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            env=environment,
            cwd=folder,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    made, deadline = Server(f"http://127.0.0.1:{port}"), time.monotonic() + PATIENCE_SECONDS
    try:
        while not made.is_up():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.2)
        for name in ("ada", "ben", "mallory"):
            made.ask("2.0/mlflow/users/create", {"username": name, "password": PASSWORDS[name]})
        yield made
    finally:
        process.terminate()
        process.wait(30)


class Session:
    """This process as one user of the server after another."""

    def __init__(self, server: Server, patch: pytest.MonkeyPatch, home: Path) -> None:
        self.server, self._patch = server, patch
        for name in ("HEADRACE_HOME", "HOME"):
            patch.setenv(name, str(home))
        patch.setenv("MLFLOW_TRACKING_URI", server.url)

    def become(self, name: str, password: str = "", **environment: str) -> None:
        """Act as `name`, with their own password unless another is given."""
        password = password or PASSWORDS[name]
        names = {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password, **environment}
        for key, value in names.items():
            self._patch.setenv(key, value)
        mlflow_server.client.cache_clear()


@pytest.fixture(scope="module")
def session(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with pytest.MonkeyPatch.context() as patch:
        yield Session(server, patch, tmp_path_factory.mktemp("home"))
    mlflow_server.client.cache_clear()


@pytest.fixture(scope="module")
def waiting(session: Session, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A challenger that ada or ben must approve, proposed by the administrator.

    The server lets ada do all that approving takes, ben write the trail and not move every alias, mallory neither.
    """
    session.become("admin")
    made, name = Candidates(tmp_path_factory.mktemp("candidates")), "gptj"
    made.propose(1, "ada", "ben")
    experiment = mlflow_server.client().get_experiment_by_name(EXPERIMENT).experiment_id
    for user, permission in (("ada", "MANAGE"), ("ben", "EDIT")):  # which does not let ben take `challenger` away
        session.server.allow(user, "EDIT", "experiment", experiment)
        session.server.allow(user, permission, "registered_model", name)
    return name


def refusal(capsys: pytest.CaptureFixture[str], name: str) -> str:
    """The one line that an approval is refused with."""
    assert run_app(["models", "approve", name, "--reason", "because"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ") and "\n" not in said and "Traceback" not in said
    assert not any(password in said for password in PASSWORDS.values())
    return said.removeprefix("error: ")


@pytest.mark.parametrize(
    ("user", "password", "told"),
    [
        ("mallory", "", "mallory (MLflow's authentication) is no approver"),
        ("ada", PASSWORDS["mallory"], "does not know ada"),
        ("nobody", "guessed", "does not know nobody"),
        ("ben", "", "lets no further ben"),
    ],
)
def test_who_may_not_approve_is_told_so_in_one_line_and_nothing_moves(
    user: str, password: str, told: str, waiting: str, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    session.become("admin")
    before = registry.audit(waiting)
    session.become(user, password, HEADRACE_USER="ada")
    assert told in refusal(capsys, waiting)
    session.become("admin")
    assert registry.audit(waiting) == before
    assert (before.entries[-1].action, before.differences) == ("propose", ())
    assert registry.champion(waiting) is None


def test_an_approval_is_its_users_and_the_trail_says_that_the_server_knew_them(
    waiting: str, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    session.become("ada", HEADRACE_USER="ben")
    assert run_app(["models", "approve", waiting, "--reason", "read it"]) == 0
    last = registry.audit(waiting).entries[-1]
    assert (last.action, last.who, last.known_by) == ("approve", "ada", "MLflow's authentication")
    assert registry.champion(waiting) is not None
    assert not any(password in text for password in PASSWORDS.values() for text in capsys.readouterr())
