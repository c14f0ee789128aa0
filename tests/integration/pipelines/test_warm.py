"""Tasks forked from a server that has imported what they need: processes as real as KFP's own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kfp import dsl
from kfp.local.subprocess_task_handler import replace_python_executable

from components.base import component
from components.data.gather import gather
from pipelines.warm import Component, WarmServer, WarmTask

SOURCE = "def work():\n    {body}\n"


def task_of(body: str) -> Component:
    nowhere = json.dumps({"outputs": {"outputFile": os.devnull}})
    return Component(SOURCE.format(body=body), ["--executor_input", nowhere, "--function_to_execute", "work"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmServer]:
    made = WarmServer(tmp_path_factory.mktemp("server") / "log")
    yield made
    made.close()


def end_of(server: WarmServer, body: str, log: Path) -> int:
    return server.start(task_of(body), log, os.environ).wait(60)


class TestComponent:
    def test_reads_the_command_that_kfp_gives_its_runner(self) -> None:
        container = gather.component_spec.implementation.container
        command = replace_python_executable([*container.command, *container.args], sys.executable)
        read = Component.of(command)
        assert read is not None
        assert "def gather(" in read.source
        assert read.arguments == ["--executor_input", "{{$}}", "--function_to_execute", "gather"]

    def test_leaves_a_command_alone_that_does_more(self) -> None:
        @dsl.component(packages_to_install=["numpy"])
        def installs() -> None:
            """Need a package."""

        container = installs.component_spec.implementation.container
        assert Component.of([*container.command, *container.args]) is None
        assert Component.of(["sh", "-ec", "echo python3 -m kfp.dsl.executor_main", "x"]) is None

    def test_runs_in_a_fresh_process_as_kfps_own_script_does(self, server: WarmServer, tmp_path: Path) -> None:
        @component
        def twice(word: str) -> str:
            """Say it twice."""
            return word + word

        said = {}
        for name in ("kfp", "warm"):
            place = tmp_path / name / "output.json"
            inputs = {"inputs": {"parameterValues": {"word": "so"}}, "outputs": {"outputFile": str(place)}}
            inputs["outputs"]["parameters"] = {"Output": {"outputFile": str(tmp_path / name / "value")}}
            container = twice.component_spec.implementation.container
            arguments = [json.dumps(inputs) if part == "{{$}}" else part for part in container.args]
            command = replace_python_executable([*container.command, *arguments], sys.executable)
            if name == "kfp":
                subprocess.run(command, check=True, capture_output=True)
            else:
                task = Component.of(command)
                assert task is not None
                assert server.start(task, tmp_path / "log", os.environ).wait(60) == 0
            said[name] = json.loads(place.read_text())
        assert said["warm"] == said["kfp"] == {"parameterValues": {"Output": "soso"}}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("pass", 0),
        ("raise ValueError('no such thing')", 1),
        ("import sys; sys.exit(3)", 3),
        ("import os; os.kill(os.getpid(), 9)", -9),
        ("import os; os.kill(os.getpid(), 15)", -15),
    ],
)
def test_the_exit_code_is_the_tasks_own(server: WarmServer, tmp_path: Path, body: str, code: int) -> None:
    assert end_of(server, body, tmp_path / "log") == code
    assert ("ValueError: no such thing" in (tmp_path / "log").read_text()) == (code == 1)


def test_a_task_has_its_own_log_environment_session_and_our_directory(
    server: WarmServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    body = "import os, sys; print(os.getcwd(), os.getsid(0) == os.getpid(), sorted(os.environ)); os.system('echo down')"
    task = server.start(task_of(body), tmp_path / "log", {"ONLY": "this", "PATH": os.environ["PATH"]})
    assert task.wait(60) == 0
    said = (tmp_path / "log").read_text()
    assert f"{tmp_path} True ['ONLY', 'PATH', '_KFP_RUNTIME']" in said
    assert "down" in said
    end_of(server, "print('later')", tmp_path / "log")
    assert (tmp_path / "log").read_text().startswith(said), "a second attempt adds to the log"


def test_tasks_that_run_together_are_each_told_apart(server: WarmServer, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        codes = threads.map(lambda n: end_of(server, f"import sys; sys.exit({n})", tmp_path / f"{n}"), range(40))
        assert list(codes) == list(range(40))


def test_waiting_is_bounded(server: WarmServer, tmp_path: Path) -> None:
    task = server.start(task_of("import time; time.sleep(60)"), tmp_path / "log", os.environ)
    with pytest.raises(subprocess.TimeoutExpired):
        task.wait(0.2)
    os.kill(task.pid, signal.SIGKILL)
    assert task.wait(60) == -9


def test_a_server_that_was_killed_is_missed_at_once(tmp_path: Path) -> None:
    server = WarmServer(tmp_path / "log")
    task = server.start(task_of("import time; time.sleep(60)"), tmp_path / "task", os.environ)
    server.process.kill()
    server.process.wait()
    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        server.start(task_of("pass"), tmp_path / "later", os.environ)
    os.kill(task.pid, signal.SIGKILL)
    assert task.wait(60) == -9, "a task that had begun is still told of"
    server.close()


def test_a_server_that_dies_over_a_request_is_missed_too(tmp_path: Path) -> None:
    server = WarmServer(tmp_path / "log")
    server.process.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(server.start, task_of("pass"), tmp_path / "task", os.environ)
        time.sleep(0.2)
        server.process.kill()
        with pytest.raises(ConnectionResetError, match=r"server is gone|reset by peer"):
            asked.result(10)
    server.close()


def test_a_task_that_nobody_tells_of_has_no_number_to_be_ended_by() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(ConnectionResetError, match="server is gone"):
        WarmTask(ours)


RUNNER = """
import os, signal, sys
from pathlib import Path
from tests.integration.pipelines.test_warm import task_of
from pipelines.warm import WarmServer
for sent in (signal.SIGTERM, signal.SIGINT):
    signal.signal(sent, lambda *_: None)  # SIG_IGN would be inherited
server = WarmServer(Path(sys.argv[1]))
task = server.start(task_of("import time; time.sleep(2)"), Path(sys.argv[1]), os.environ)
print(server.process.pid, flush=True)
print(task.wait(60), flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", RUNNER, str(tmp_path / "log")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, start_new_session=True, cwd=Path(__file__).parents[3], **pipes) as process:
        yield process


def test_the_server_outlives_a_signal_to_the_group_and_ends_with_its_runner(runner: subprocess.Popen[str]) -> None:
    server = int(runner.stdout.readline())
    os.killpg(runner.pid, signal.SIGTERM)
    os.killpg(runner.pid, signal.SIGINT)
    assert runner.stdout.readline() == "0\n", "the task was let to its end, and its runner heard of it"
    runner.kill()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{server}").exists() and "Z" not in Path(f"/proc/{server}/stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
