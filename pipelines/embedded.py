"""A pipeline on this machine: KFP's local runner, watched stage by stage.

KFP's runner does the orchestration: order, conditions, loops, retries, exit handlers, caching. What is
exchanged here, for the time of one run, is how a task's process is started (its output goes to a log of
its own, and it is told where to report), which cache answers, and that nobody prints over the table.
"""

import contextlib
import contextvars
import functools
import logging
import os
import re
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from kfp import local
from kfp.local import cache, logging_utils, subprocess_task_handler
from kfp.local.orchestrator import task_executor
from kfp.local.status import Status

from headrace import status, tracking
from headrace.cli.stages import Board
from headrace.errors import PipelineError
from pipelines.caching import VerifiedCache
from pipelines.processes import TaskProcesses, polled

POLL_SECONDS = 0.2
SWALLOWED = ("Condition evaluation failed", "Could not resolve")
"""How KFP's warnings about a condition or loop that it could not decide begin."""

_stage: contextvars.ContextVar[str] = contextvars.ContextVar("stage")


class EmbeddedRun:
    """One run of one pipeline with KFP's local runner.

    Args:
        run_id: Names the run, its folder under `home` and its MLflow parent.
        board: Told what happens to each stage.
        home: Where artifacts, logs and the cache lie.
        use_cache: Whether tasks computed before may answer.
    """

    def __init__(self, run_id: str, board: Board, home: Path, *, use_cache: bool = True) -> None:
        self.run_id = run_id
        self.board = board
        self.home = home
        self.folder = home / "runs" / run_id
        self.use_cache = use_cache
        self._mistaken: set[str] = set()
        self._processes = TaskProcesses(self.folder / "runner.log")

    def run(self, pipeline: Callable[..., Any], arguments: Mapping[str, Any]) -> bool:
        """Run `pipeline` to its end; the board has seen everything when this returns.

        Returns:
            Whether KFP calls it a success and no stage failed.

        Raises:
            PipelineError: KFP itself failed, outside every stage; the message is its own.
            KeyboardInterrupt: The run was interrupted; its processes are gone.
        """
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        log = self.folder / "runner.log"
        with self._exchanged(), self._told_to(log), self._interruptible(), self._processes:
            local.init(
                local.SubprocessRunner(use_venv=False),
                pipeline_root=str(self.home / "artifacts"),
                workspace_root=str(self.folder / "scratch"),
                raise_on_error=True,
                enable_caching=self.use_cache,
                cache_root=str(self.home / "cache"),
            )
            try:
                pipeline(**arguments)
            except RuntimeError as error:
                if not self.board.failed():
                    raise PipelineError(f"KFP gave up ({error}). Its log is {log}.") from error
        self._refuse_swallowed(log)
        return not self.board.failed()

    @staticmethod
    def _refuse_swallowed(log: Path) -> None:
        """KFP's runner takes a condition that it cannot evaluate for false, and says so in its log alone."""
        swallowed = [line for line in log.read_text().splitlines() if line.startswith(SWALLOWED)]
        if swallowed:
            raise PipelineError(f"KFP skipped what it should have decided ({swallowed[0]}). Its log is {log}.")

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Stop every task's process on SIGINT and SIGTERM, before KFP's loops begin to wait for them."""

        def interrupt(*_: object) -> None:
            self._processes.end()
            raise KeyboardInterrupt

        here = threading.current_thread() is threading.main_thread()
        kept = {sent: signal.signal(sent, interrupt) for sent in (signal.SIGINT, signal.SIGTERM) if here}
        try:
            yield
        finally:
            for sent, handler in kept.items():
                signal.signal(sent, handler)

    @staticmethod
    @contextlib.contextmanager
    def _told_to(place: Path) -> Iterator[None]:
        """Send what KFP prints and logs to a file; the table speaks for the run."""
        root = logging.getLogger()
        with place.open("a") as log, contextlib.redirect_stdout(log):
            handler = logging.StreamHandler(log)
            kept, root.handlers = root.handlers, [handler]
            try:
                yield
            finally:
                root.handlers = kept

    @contextlib.contextmanager
    def _exchanged(self) -> Iterator[None]:
        """Put our task starter, cache and silence in KFP's place while the run lasts."""
        quiet = contextlib.nullcontext
        kept = type("RunCache", (VerifiedCache,), {"on_hit": self._hit, "on_drop": self._dropped})
        execute = functools.partial(self._observe, task_executor.execute_single_task)
        with contextlib.ExitStack() as stack:
            for place, name, ours in (
                (task_executor, "execute_single_task", execute),
                (subprocess_task_handler, "run_local_subprocess", self._start),
                (cache, "LocalCache", kept),
                (logging_utils, "indented_print", quiet),
                (logging_utils, "local_logger_context", quiet),
            ):
                stack.enter_context(mock.patch.object(place, name, ours))
            stack.enter_context(mock.patch.dict(os.environ, {tracking.PIPELINE_RUN: self.run_id}))
            os.environ.pop("MLFLOW_RUN_ID", None)  # a task would take a run of the user's own for its own
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            yield

    def _observe(self, execute: Callable[..., tuple[dict[str, Any], Status]], **task: Any) -> Any:
        """Follow one task from its start to its end."""
        name = stage_name(task["task_spec"].task_info.name, task["pipeline_resource_name"])
        token = _stage.set(name)
        self.board.started(name, self.folder / "logs" / f"{slug(name)}.log")
        try:
            outputs, ended = execute(**task)
        except Exception as error:  # KFP's loops swallow it, and nobody would hear of it
            self.board.failed_with(name, error)
            raise
        finally:
            _stage.reset(token)
        self.board.finished(name, outputs, succeeded=ended == Status.SUCCESS)
        return outputs, ended

    def _hit(self, outputs: dict[str, Any]) -> None:
        self.board.cached(_stage.get(), outputs, self.run_id)

    def _dropped(self, reason: str) -> None:
        self.board.note(_stage.get(), reason)

    def _start(self, full_command: list[str], env_vars: Mapping[str, str] | None = None) -> int:
        """Run one task's process with its output in its log; the exit code is its own."""
        name = _stage.get()
        if self._processes.ending or name in self._mistaken:  # what the user has to change, another attempt will not
            return 2
        report = self.folder / "logs" / f"{slug(name)}.json"
        report.unlink(missing_ok=True)
        environment = {
            **os.environ,
            **(env_vars or {}),
            tracking.STAGE: name,
            status.STATUS: str(report),
            status.RUNNER: str(os.getpid()),
        }
        log = self.folder / "logs" / f"{slug(name)}.log"
        with self._processes.running(full_command, log, environment) as process:
            while (code := polled(process, POLL_SECONDS)) is None:
                self.board.progressed(name, status.read(report))
        said = status.read(report)
        self.board.progressed(name, said, code)
        if said.get("error", {}).get("exit_code") == 2:
            self._mistaken.add(name)
        return code


def stage_name(task: str, resource: str) -> str:
    """What a stage is called on the board: its task, and its turn where it is one of a loop's."""
    turn = re.search(r"-iteration-(\d+)", resource)
    return f"{task} {int(turn[1]) + 1}" if turn else task


def slug(name: str) -> str:
    """A stage's name as a file name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def planned_stages(pipeline: Any) -> list[str]:
    """The tasks of a pipeline in an order they can run in, loops counted once, the exit task last."""
    spec = pipeline.pipeline_spec
    return list(_leaves(spec, spec.root.dag))


def _leaves(spec: Any, dag: Any) -> Iterator[str]:
    for name in _in_order(dag.tasks):
        task = dag.tasks[name]
        component = spec.components[task.component_ref.name]
        if component.WhichOneof("implementation") == "dag":
            yield from _leaves(spec, component.dag)
        else:
            yield task.task_info.name


def _in_order(tasks: Any) -> list[str]:
    """Task names, each after all it depends on; alphabetical where nothing decides."""
    done: list[str] = []
    while len(done) < len(tasks):
        ready = (n for n in sorted(tasks) if n not in done and set(tasks[n].dependent_tasks) <= set(done))
        done.append(next(ready))
    return done
