"""The stages of a running pipeline as a live table, or as lines where nobody watches."""

import json
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from headrace import tracking
from headrace.atomic import write_text

State = Literal["waiting", "running", "cached", "done", "failed", "skipped"]
COLOURS: dict[str, str] = {
    "waiting": "dim",
    "running": "cyan",
    "cached": "blue",
    "done": "green",
    "failed": "bold red",
    "skipped": "dim",
}
MARKS = {"waiting": "·", "running": "▸", "cached": "≡", "done": "✓", "failed": "✗", "skipped": "-"}
RECORD = "task.json"
"""Beside a task's outputs: which run computed them, and the number it showed."""


@dataclass(slots=True)
class Stage:
    """What is known of one stage."""

    name: str
    state: State = "waiting"
    started: float = 0.0
    seconds: float = 0.0
    text: str = ""
    """Progress while it runs, its headline metric afterwards."""
    run_id: str = ""
    """Its MLflow run."""
    error: dict[str, Any] = field(default_factory=dict)
    log: str = ""
    note: str = ""
    """Why it ran although it had run before."""
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Outputs by name: URI and metadata."""

    def elapsed(self) -> float:
        """Seconds it has run, or ran."""
        return time.monotonic() - self.started if self.state == "running" else self.seconds


class Board:
    """Keeps the stages and shows them; safe to tell from several threads."""

    def __init__(self, planned: Iterable[str], console: Console) -> None:
        self.stages = {name: Stage(name) for name in planned}
        self.console = console
        self._live = Live(get_renderable=self.table, console=console, refresh_per_second=4, redirect_stdout=False)
        self._lock = threading.RLock()

    def __enter__(self) -> "Board":
        """Begin to show the table."""
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Settle what was never reached and leave the final table standing."""
        for stage in self.stages.values():
            if stage.state in ("waiting", "running"):
                stage.seconds = stage.elapsed()
                stage.state = "skipped" if stage.state == "waiting" else "failed"
        if self.console.is_terminal:
            self._live.stop()

    def started(self, name: str, log: Path) -> None:
        """A stage begins, or has begun to look for itself in the cache."""
        with self._lock:
            stage = self._stage(name)
            stage.state, stage.started, stage.log = "running", time.monotonic(), str(log)

    def _stage(self, name: str) -> Stage:
        """Find a stage; the turns of a loop stand in their order where the loop was planned."""
        if name not in self.stages:
            loop, turn = _turn(name)
            keys = list(self.stages)
            places = [i for i, key in enumerate(keys) if key == loop or _turn(key)[0] == loop] or [len(keys)]
            before = sum(_turn(keys[i])[1] < turn for i in places if i < len(keys) and keys[i] != loop)
            keys.insert(places[0] + before, name)
            made = {**self.stages, name: Stage(name)}
            self.stages = {key: made[key] for key in keys if not (turn and key == loop)}
        return self.stages[name]

    def progressed(self, name: str, said: Mapping[str, Any], code: int | None = None) -> None:
        """A stage's process has reported, or has ended with `code`."""
        with self._lock:
            stage = self._stage(name)
            stage.run_id = said.get("run_id", stage.run_id)
            stage.text = said.get("headline") or said.get("text") or stage.text
            stage.error = said.get("error", {})
            if code and not stage.error:
                message = f"{name} ended with exit code {code}. Its log is {stage.log}."
                stage.error = {"message": message, "exit_code": 1, "known": True}

    def note(self, name: str, reason: str) -> None:
        """A stage that ran before has to run again."""
        with self._lock:
            self._stage(name).note = reason

    def cached(self, name: str, outputs: Mapping[str, Any], pipeline_run: str) -> None:
        """A stage's earlier outputs were verified and answer for it; MLflow is told which run made them."""
        record = _record_of(outputs)
        run_id = tracking.record_cached(pipeline_run, name, record.get("run_id", ""))
        with self._lock:
            stage = self._stage(name)
            stage.state, stage.text, stage.run_id = "cached", record.get("text", ""), run_id

    def failed_with(self, name: str, error: Exception) -> None:
        """A stage failed outside its own process."""
        with self._lock:
            stage = self._stage(name)
            stage.state, stage.seconds = "failed", time.monotonic() - stage.started
            stage.error = {"message": f"{type(error).__name__}: {error}", "exit_code": 1, "known": False}

    def finished(self, name: str, outputs: Mapping[str, Any], *, succeeded: bool) -> None:
        """A stage has ended, one way or the other."""
        with self._lock:
            stage = self._stage(name)
            stage.seconds = time.monotonic() - stage.started
            stage.artifacts = {
                key: {"uri": output.uri, "metadata": dict(output.metadata)}
                for key, output in outputs.items()
                if hasattr(output, "uri")
            }
            if stage.state != "cached":
                stage.state = "done" if succeeded else "failed"
                _keep_record(stage)
        if not self.console.is_terminal:
            self.console.print(f"{MARKS[stage.state]} {_line(stage)}", highlight=False, markup=False, soft_wrap=True)

    def failed(self) -> list[Stage]:
        """The stages that failed."""
        return [stage for stage in self.stages.values() if stage.state == "failed"]

    def table(self) -> Table:
        """The stages as a table: state, duration, progress or headline."""
        table = Table(box=None, pad_edge=False, show_header=True, header_style="dim", expand=False)
        for title, style in (("stage", ""), ("state", ""), ("time", "dim"), ("", "")):
            table.add_column(title, style=style, justify="right" if title == "time" else "left", no_wrap=True)
        for stage in list(self.stages.values()):
            state = Text(f"{MARKS[stage.state]} {stage.state}", style=COLOURS[stage.state])
            told = stage.error.get("message", "") or stage.text
            table.add_row(stage.name, state, _clock(stage.elapsed()), Text(told, overflow="ellipsis"))
        return table


def _turn(name: str) -> tuple[str, int]:
    """The loop that a stage is a turn of, and which; its own name and 0 where it is none."""
    loop, _, turn = name.rpartition(" ")
    return (loop, int(turn)) if turn.isdecimal() else (name, 0)


def _line(stage: Stage) -> str:
    told = stage.error.get("message", "") or stage.text
    return f"{stage.name:<22} {stage.state:<8} {_clock(stage.seconds):>7}  {told}".rstrip()


def _clock(seconds: float) -> str:
    if not seconds:
        return ""
    return f"{seconds:.1f}s" if seconds < 60 else f"{int(seconds // 60)}m {int(seconds % 60):02d}s"


def _keep_record(stage: Stage) -> None:
    """Leave beside the outputs who computed them, for the runs that the cache will answer."""
    uri = next((artifact["uri"] for artifact in stage.artifacts.values()), None)
    if uri is not None:
        record = {"run_id": stage.run_id, "text": stage.text, "stage": stage.name}
        write_text(Path(uri).parent / RECORD, json.dumps(record), durable=False)


def _record_of(outputs: Mapping[str, Any]) -> dict[str, str]:
    for output in outputs.values():
        place = Path(getattr(output, "uri", "")).parent / RECORD
        if place.is_file():
            record: dict[str, str] = json.loads(place.read_text())
            return record
    return {}
