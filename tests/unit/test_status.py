import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace import status
from headrace.errors import ConfigError, HeadraceError, UnavailableError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the status goes; nothing was said yet."""
    monkeypatch.setenv(status.STATUS, str(tmp_path / "logs" / "task.json"))
    monkeypatch.setattr(status, "_said", {})
    monkeypatch.setattr(status, "_written", 0.0)
    yield tmp_path / "logs" / "task.json"


def test_before_the_first_word_a_status_is_empty(place: Path) -> None:
    assert status.read(place) == {}


def test_what_is_said_adds_up(place: Path) -> None:
    status.report(run_id="r")
    status.report(headline="87 %", digest="d")
    status.report(digest="e")
    assert status.read(place) == {"run_id": "r", "headline": "87 %", "digest": "e"}


def test_mere_progress_is_written_now_and_then_and_facts_at_once(place: Path) -> None:
    status.report(text="first", fraction=0.1)
    written = place.stat().st_mtime_ns
    for step in range(50):
        status.report(text=f"step {step}", fraction=step / 50)
    assert (status.read(place)["text"], place.stat().st_mtime_ns) == ("first", written)
    time.sleep(status.PAUSE_SECONDS)
    status.report(text="later")
    assert status.read(place) == {"text": "later", "fraction": 49 / 50}
    status.report(text="last", fraction=1.0)
    status.report(headline="done")
    assert status.read(place) == {"text": "last", "fraction": 1.0, "headline": "done"}


def test_without_a_runner_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(status.STATUS, raising=False)
    monkeypatch.chdir(tmp_path)
    status.report(headline="x")
    status.follow_runner()
    assert list(tmp_path.iterdir()) == []


def talk(place: Path) -> None:
    os.environ[status.STATUS] = str(place)
    for n in range(10**6):
        status.report(headline="x" * (n % 4000), number=n)


def test_a_reader_never_sees_half_a_status(place: Path) -> None:
    writer = multiprocessing.get_context("fork").Process(target=talk, args=(place,), daemon=True)
    writer.start()
    seen = set()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        said = status.read(place)
        assert not said or len(said["headline"]) == said["number"] % 4000
        seen.add(said.get("number"))
    writer.kill()
    writer.join()
    assert len(seen) > 5


def test_threads_may_talk_at_once(place: Path) -> None:
    def chat(name: str) -> None:
        for n in range(40):
            status.report(**{f"{name}{n}": n})

    threads = [threading.Thread(target=chat, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert status.read(place) == {f"{name}{n}": n for name in "abcd" for n in range(40)}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConfigError("seed=x is no seed."), ("seed=x is no seed.", 2, True)),
        (UnavailableError("No answer\nfrom there."), ("No answer from there.", 1, True)),
        (HeadraceError(), ("", 1, True)),
        (ValueError("bad\nworse"), ("ValueError: bad worse", 1, False)),
        (KeyError("k"), ("KeyError: 'k'", 1, False)),
        (KeyboardInterrupt(), ("KeyboardInterrupt", 1, False)),
        (OSError("at http://me:s3cret@host:5000/api"), ("OSError: at http://***@host:5000/api", 1, False)),
        (UnavailableError("at http://me:s3@cret@host/"), ("at http://***@host/", 1, True)),
    ],
)
def test_an_error_is_one_line_with_its_exit_code_and_no_password(
    place: Path, error: BaseException, told: tuple[str, int, bool]
) -> None:
    status.fail(error)
    said = status.read(place)["error"]
    assert (said["message"], said["exit_code"], said["known"]) == told


FOLLOWER = """
import time
from headrace import status
status.follow_runner()
print("follows", flush=True)
time.sleep(60)
"""


def test_an_orphan_ends_when_its_runner_is_gone_even_unburied() -> None:
    runner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    follower = subprocess.Popen(
        [sys.executable, "-c", FOLLOWER],
        env={**os.environ, status.RUNNER: str(runner.pid)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "follows\n"
        time.sleep(1)
        assert follower.poll() is None
        runner.kill()  # and nobody waits for it: it stays a zombie
        assert follower.wait(10) == 1
    finally:
        runner.wait()
        follower.kill()
        follower.wait()


def test_a_status_is_plain_json(place: Path) -> None:
    status.report(headline="Straße\n")
    assert json.loads(place.read_text()) == {"headline": "Straße\n"}
