"""The embedded runner on a small chain of real tasks: real processes, a real MLflow store, a real cache."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl
from rich.console import Console

from components.base import component
from components.registry.close import close
from headrace import tracking
from headrace.cli.stages import Board
from headrace.errors import PipelineError
from pipelines.embedded import EmbeddedRun, planned_stages


@component
def listing(words: list, corpus: dsl.Output[dsl.Dataset]) -> list:
    """Write words as a corpus and return them one by one."""
    from pathlib import Path

    from headrace import storage
    from headrace.artifacts import Corpus
    from headrace.tracking import task

    with task({"words": words}) as run:
        with storage.writing(corpus.path) as tree:
            Path(tree.path, "words.txt").write_text(" ".join(words))
            manifest = tree.commit(Corpus(documents=len(words), sources={"words": len(words)}))
        run.made(corpus, manifest, f"{len(words)} words")
    return words


@component
def shout(corpus: dsl.Input[dsl.Dataset], word: str, loud: dsl.Output[dsl.Dataset]) -> None:
    """Write one word in capitals."""
    from pathlib import Path

    from headrace import storage
    from headrace.artifacts import Corpus
    from headrace.errors import DataError
    from headrace.tracking import task

    with task({"word": word}, {"corpus": corpus}) as run:
        if word == "silence":
            raise DataError("word='silence' cannot be shouted. Choose another.")
        with storage.writing(loud.path) as tree:
            Path(tree.path, "words.txt").write_text(word.upper())
            manifest = tree.commit(Corpus(documents=1, sources={"words": 1}))
        run.made(loud, manifest, word.upper())


@component
def count(corpus: dsl.Input[dsl.Dataset]) -> str:
    """Say whether there are many words."""
    from pathlib import Path

    from headrace.tracking import task

    with task(inputs={"corpus": corpus}):
        words = Path(corpus.path, "words.txt").read_text().split()
    return "many" if len(words) > 2 else "few"


@component
def stumble(place: str, corpus: dsl.Output[dsl.Dataset]) -> None:
    """Fail once, as a machine does, then write a corpus."""
    from pathlib import Path

    from headrace import storage
    from headrace.artifacts import Corpus
    from headrace.tracking import task

    with task() as run:
        fallen = Path(place)
        if not fallen.exists():
            fallen.touch()
            raise OSError("the disk was busy")
        with storage.writing(corpus.path) as tree:
            manifest = tree.commit(Corpus(documents=0, sources={}))
        run.made(corpus, manifest, "on its feet")


@dsl.pipeline(name="stumbling")
def stumbling(place: str):
    """Try twice."""
    with dsl.ExitHandler(close().set_caching_options(False)):
        stumble(place=place).set_retry(num_retries=1)


@component
def quote() -> str:
    """Say something with an apostrophe."""
    return "it's"


@dsl.pipeline(name="undecided")
def undecided(words: list):
    """Ask a question whose answer, quoted, is no expression."""
    with dsl.ExitHandler(close().set_caching_options(False)):
        listed = listing(words=words)
        said = quote()
        with dsl.If(said.output == "it's", name="quoted"):
            count(corpus=listed.outputs["corpus"])


@dsl.pipeline(name="words")
def words(words: list):
    """List words, shout each, and shout again when there are many."""
    with dsl.ExitHandler(close().set_caching_options(False)):
        listed = listing(words=words)
        with dsl.ParallelFor(listed.outputs["Output"]) as word:
            shout(corpus=listed.outputs["corpus"], word=word).set_retry(num_retries=1)
        amount = count(corpus=listed.outputs["corpus"])
        with dsl.If(amount.output == "many"):
            shout(corpus=listed.outputs["corpus"], word="many").set_display_name("shout many")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's `.headrace` with an MLflow store of its own."""
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracking.client.cache_clear()
    return tmp_path


def run(home: Path, run_id: str, text: list[str]) -> Board:
    return carry_out(home, run_id, words, {"words": text})


def carry_out(home: Path, run_id: str, pipeline: Any, arguments: dict[str, Any]) -> Board:
    tracking.parent_run(run_id)
    board = Board(planned_stages(pipeline), Console(file=(home / "table.txt").open("a")))
    with board:
        EmbeddedRun(run_id, board, home).run(pipeline, arguments)
    return board


def states(board: Board) -> dict[str, str]:
    return {stage.name: stage.state for stage in board.stages.values()}


def mlflow_runs(run_id: str) -> dict[str, tuple[str, str]]:
    """By stage ("" is the parent): status, and whether it is marked cached."""
    found = tracking.client().search_runs([tracking.experiment_id()], f"tags.`{tracking.RUN_TAG}` = '{run_id}'")
    return {
        run.data.tags.get("headrace.stage", ""): (run.info.status, run.data.tags.get("headrace.cached", ""))
        for run in found
    }


def test_a_chain_runs_loops_conditions_and_exit_task_and_is_answered_from_the_cache_next_time(home: Path) -> None:
    first = run(home, "first", ["one", "two", "three"])
    assert states(first) == {
        "listing": "done",
        "count": "done",
        "shout many": "done",
        "shout 1": "done",
        "shout 2": "done",
        "shout 3": "done",
        "close": "done",
    }
    assert first.stages["shout 2"].text == "TWO"
    assert mlflow_runs("first")["shout 3"] == ("FINISHED", "false")
    assert mlflow_runs("first")[""] == ("FINISHED", "")

    second = run(home, "second", ["one", "two", "three"])
    assert set(states(second).values()) == {"cached", "done"}
    assert [name for name, state in states(second).items() if state == "done"] == ["close"]
    assert mlflow_runs("second")["shout 3"] == ("FINISHED", "true")
    linked = tracking.client().get_run(second.stages["shout 3"].run_id).data.tags["headrace.computed_by"]
    assert linked == first.stages["shout 3"].run_id


def test_a_flipped_byte_makes_its_stage_run_again_and_says_why(home: Path) -> None:
    first = run(home, "first", ["one"])
    altered = Path(first.stages["shout 1"].artifacts["loud"]["uri"]) / "words.txt"
    altered.write_text("ONF")
    second = run(home, "second", ["one"])
    assert states(second)["shout 1"] == "done"
    assert "words.txt is altered" in second.stages["shout 1"].note
    assert states(second)["listing"] == "cached"


def test_a_condition_that_fails_skips_its_stage(home: Path) -> None:
    assert states(run(home, "few", ["one"]))["shout many"] == "skipped"


def test_a_users_mistake_is_one_line_is_not_retried_and_the_exit_task_still_closes_the_runs(home: Path) -> None:
    board = run(home, "bad", ["silence"])
    failed = {stage.name: stage for stage in board.failed()}
    assert failed["shout 1"].error == {
        "message": "word='silence' cannot be shouted. Choose another.",
        "exit_code": 2,
        "known": True,
    }
    assert Path(failed["shout 1"].log).read_text().count("\nheadrace.errors.DataError:") == 1
    assert states(board)["close"] == "done"
    assert mlflow_runs("bad") == {
        "": ("FAILED", ""),
        "listing": ("FINISHED", "false"),
        "count": ("FINISHED", "false"),
        "shout 1": ("FAILED", "false"),
    }


def test_a_retry_that_succeeds_leaves_the_stage_done_and_both_attempts_in_mlflow(home: Path, tmp_path: Path) -> None:
    board = carry_out(home, "again", stumbling, {"place": str(tmp_path / "fallen")})
    assert states(board) == {"stumble": "done", "close": "done"}
    assert board.stages["stumble"].text == "on its feet"
    assert not board.stages["stumble"].error
    found = tracking.client().search_runs([tracking.experiment_id()], "tags.`headrace.stage` = 'stumble'")
    assert sorted(run.info.status for run in found) == ["FAILED", "FINISHED"]
    assert mlflow_runs("again")[""] == ("FINISHED", "")


def test_a_condition_that_kfp_cannot_decide_is_an_error_and_not_a_no(home: Path) -> None:
    with pytest.raises(PipelineError, match=r"KFP skipped what it should have decided \(Condition evaluation failed"):
        carry_out(home, "undecided", undecided, {"words": ["one"]})


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_task_fails_its_stage_and_its_mlflow_run_is_closed(home: Path, sent: signal.Signals) -> None:
    script = f"""
import os, signal, sys
from headrace.tracking import task
with task():
    os.kill(os.getpid(), {int(sent)})
"""
    environment = {**os.environ, tracking.PIPELINE_RUN: "killed", tracking.STAGE: "victim"}
    assert subprocess.run([sys.executable, "-c", script], env=environment).returncode == -sent
    assert mlflow_runs("killed")["victim"][0] == "RUNNING"
    assert tracking.close_pipeline("killed", "KILLED") == 1
    assert {status for status, _ in mlflow_runs("killed").values()} == {"KILLED"}


def test_a_task_ends_when_its_runner_is_gone(home: Path, tmp_path: Path) -> None:
    child = """
import time
from headrace.status import follow_runner
follow_runner()
print("up", flush=True)
time.sleep(60)
"""
    runner = f"""
import os, subprocess, sys
task = subprocess.Popen([sys.executable, "-c", {child!r}], stdout=subprocess.PIPE,
    env={{**os.environ, "HEADRACE_RUNNER_PID": str(os.getpid())}})
task.stdout.readline()
print(task.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    said = subprocess.run([sys.executable, "-c", runner], capture_output=True, text=True, env=dict(os.environ)).stdout
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and Path(f"/proc/{int(said)}").exists():
        if "State:\tZ" in Path(f"/proc/{int(said)}/status").read_text():
            break
        time.sleep(0.1)
    assert time.monotonic() < deadline


def test_the_status_of_a_stage_is_told_while_it_runs(home: Path) -> None:
    board = run(home, "told", ["one"])
    said = json.loads((home / "runs" / "told" / "logs" / "shout-1.json").read_text())
    assert said["headline"] == "ONE"
    assert said["run_id"] == board.stages["shout 1"].run_id


@component
def say(word: str) -> str:
    """Say it."""
    return word


@dsl.pipeline(name="nested")
def nested():
    """Ask twice, the second time about what was made because of the first answer, as a release does."""
    first = say(word="promoted")
    with dsl.If(first.output == "promoted", name="outer"):
        second = say(word="challenger").set_display_name("say again")
        with dsl.If(second.output == "challenger", name="inner"):
            say(word="waits").set_display_name("wait")
        with dsl.If(second.output == "champion", name="other"):
            say(word="serves").set_display_name("serve")


def test_a_condition_within_a_condition_is_decided_by_what_its_own_task_says(home: Path) -> None:
    board = carry_out(home, "nested", nested, {})
    assert states(board) == {"say": "done", "say again": "done", "wait": "done", "serve": "skipped"}
