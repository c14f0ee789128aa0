"""Runs in processes of their own, which tests interrupt as the world does."""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from headrace import storage
from headrace.artifacts import MODEL_FILE, OPTIMIZER_FILE
from headrace.errors import HeadraceError
from headrace.tracking import Tracker
from headrace.training.logs import LOSS_FILE
from headrace.training.loop import train
from tests.unit.training.together import context

STEPS, EVERY = 120, 9
PATIENCE_SECONDS = 60.0


def work(arguments: dict[str, Any]) -> None:
    """Train, and end as a command would, its last words beside the output."""
    try:
        train(**arguments)
    except HeadraceError as error:
        Path(f"{arguments['output_uri']}.error").write_text(str(error))
        sys.exit(error.exit_code)


class Trial:
    """One run's directories, and processes that train in them."""

    def __init__(self, tiny: Any, root: Path, **changes: Any) -> None:
        self.out, self.work = root / "out", root / "work"
        self.target: Callable[[dict[str, Any]], None] = work
        config = replace(tiny.config, **{"steps": STEPS, "checkpoint_every_steps": EVERY} | changes)
        self.arguments = tiny.arguments(self.out, self.work, config=config, tracker=Tracker())

    def start(self) -> Any:
        process = context().Process(target=self.target, args=(self.arguments,))
        process.start()
        return process

    def finish(self) -> None:
        process = self.start()
        process.join(PATIENCE_SECONDS)
        assert process.exitcode == 0

    def start_until(self, condition: Callable[[], bool]) -> Any:
        """A fresh process, the moment `condition` holds."""
        process, deadline = self.start(), time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.0005)
        return process

    def kill_when(self, condition: Callable[[], bool]) -> None:
        """SIGKILL a fresh process the moment `condition` holds."""
        process = self.start_until(condition)
        process.kill()
        process.join()
        assert process.exitcode == -9
        assert not self.out.exists()

    def said(self) -> str:
        return Path(f"{self.out}.error").read_text()

    def steps_logged(self) -> int:
        return self.losses().count(b"\n")

    def losses(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.work.glob(f"*/{LOSS_FILE}"))

    def checkpoints(self) -> list[Path]:
        return sorted(self.work.glob("*/step-????????"))

    def being_saved(self) -> bool:
        return any(self.work.glob("*/step-*.partial-*"))


def agree(one: Trial, other: Trial) -> None:
    """Every loss, every byte of the sealed checkpoint and of the last one with moments is the same."""
    assert one.losses() == other.losses()
    assert (one.out / MODEL_FILE).read_bytes() == (other.out / MODEL_FILE).read_bytes()
    assert storage.verify(one.out).digest == storage.verify(other.out).digest
    last, other_last = (trial.checkpoints()[-1] for trial in (one, other))
    assert OPTIMIZER_FILE in storage.read_manifest(last).files
    assert storage.verify(last).digest == storage.verify(other_last).digest
