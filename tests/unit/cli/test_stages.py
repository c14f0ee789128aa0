import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from headrace import tracking
from headrace.cli.stages import RECORD, Board


def board(*planned: str, terminal: bool = False) -> Board:
    return Board(planned, Console(file=io.StringIO(), force_terminal=terminal, width=100, record=True))


def output(path: Path) -> SimpleNamespace:
    """What KFP hands over for an output artifact."""
    path.mkdir(parents=True, exist_ok=True)
    return SimpleNamespace(uri=str(path), metadata={"digest": "abc"})


def lines(shown: Board) -> list[str]:
    console = Console(file=io.StringIO(), width=100, record=True)
    console.print(shown.table())
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_the_turns_of_a_loop_take_the_place_that_was_planned_for_the_loop() -> None:
    shown = board("gather", "tokenize", "combine text", "close")
    for name in ("gather", "tokenize 2", "tokenize 10", "tokenize 1", "tokenize 3", "combine text", "unplanned"):
        shown.started(name, Path("log"))
    turns = [f"tokenize {turn}" for turn in (1, 2, 3, 10)]
    assert list(shown.stages) == ["gather", *turns, "combine text", "close", "unplanned"]


def test_the_table_shows_state_duration_and_progress_then_headline_or_error() -> None:
    shown = board("gather", "pretrain", "gate")
    shown.started("gather", Path("log"))
    shown.progressed("gather", {"text": "half way"})
    assert re.fullmatch(r"gather +▸ running +\S+s +half way", lines(shown)[1])
    shown.progressed("gather", {"text": "half way", "headline": "7 files"}, 0)
    shown.finished("gather", {}, succeeded=True)
    shown.stages["gather"].seconds = 83.0
    assert re.fullmatch(r"gather +✓ done +1m 23s +7 files", lines(shown)[1])
    shown.started("pretrain", Path("log"))
    shown.progressed("pretrain", {"text": "step 3", "error": {"message": "loss is NaN.", "exit_code": 1}}, 1)
    shown.finished("pretrain", {}, succeeded=False)
    assert re.search(r"✗ failed .* loss is NaN\.$", lines(shown)[2])
    assert re.fullmatch(r"gate +· waiting", lines(shown)[3])


def test_a_process_that_ends_without_a_word_is_reported_with_its_code_and_log() -> None:
    shown = board("pretrain")
    shown.started("pretrain", Path("logs/pretrain.log"))
    shown.progressed("pretrain", {}, -9)
    assert (
        shown.stages["pretrain"].error["message"] == "pretrain ended with exit code -9. Its log is logs/pretrain.log."
    )


def test_what_was_never_reached_is_skipped_and_what_was_cut_off_has_failed() -> None:
    with board("gather", "pretrain", "gate", terminal=True) as shown:
        shown.started("gather", Path("log"))
        shown.finished("gather", {}, succeeded=True)
        shown.started("pretrain", Path("log"))
    assert [stage.state for stage in shown.stages.values()] == ["done", "failed", "skipped"]
    assert [stage.name for stage in shown.failed()] == ["pretrain"]
    assert shown.stages["pretrain"].elapsed() == shown.stages["pretrain"].seconds > 0


def test_a_cached_stage_shows_the_number_and_links_the_run_that_computed_it(mlflow_store: Path) -> None:
    first, second = board("gather"), board("gather")
    outputs = {"corpus": output(mlflow_store / "task" / "corpus"), "Output": ["a", "b"]}
    origin = tracking.nested_run("first", "gather")
    first.started("gather", Path("log"))
    first.progressed("gather", {"run_id": origin, "headline": "7 files"}, 0)
    first.finished("gather", outputs, succeeded=True)
    assert json.loads((mlflow_store / "task" / RECORD).read_text())["run_id"] == origin

    second.started("gather", Path("log"))
    second.cached("gather", outputs, "second")
    second.finished("gather", outputs, succeeded=True)
    stage = second.stages["gather"]
    assert (stage.state, stage.text) == ("cached", "7 files")
    assert tracking.client().get_run(stage.run_id).data.tags["headrace.computed_by"] == origin
    assert stage.artifacts == {"corpus": {"uri": outputs["corpus"].uri, "metadata": {"digest": "abc"}}}


@pytest.mark.parametrize("said", ["a [/b] c", "files[text] is empty"])
def test_lines_for_those_who_do_not_watch_say_brackets_as_they_are(said: str) -> None:
    shown = board("gather")
    shown.started("gather", Path("log"))
    shown.progressed("gather", {"headline": said}, 0)
    shown.finished("gather", {}, succeeded=True)
    assert re.fullmatch(rf"✓ gather +done +\S* +{re.escape(said)}\n", shown.console.export_text())
