"""Training, from opened inputs to a sealed checkpoint."""

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace import checkpoints, resident
from headrace.artifacts import LEDGER_FILE, Manifest
from headrace.config import encode
from headrace.tracking import Tracker
from headrace.training.callbacks import Callback, Checkpoints, Feed, Metrics
from headrace.training.config import TrainConfig
from headrace.training.curves import Curves
from headrace.training.inputs import Inputs, open_inputs
from headrace.training.interruption import Interruption, stopped_after
from headrace.training.logs import LossLog, SkippedLog
from headrace.training.mirror import Mirror, configured
from headrace.training.parallel import launch
from headrace.training.profile import Profile, profiled_steps
from headrace.training.progress import Bar, Progress
from headrace.training.run import Run
from headrace.training.step import take_step
from headrace.training.throughput import Throughput
from headrace.training.traffic import Traffic
from headrace.training.writer import CheckpointWriter

INDECISIVE = ("checkpoint_every_steps", "checkpoints", "log_every_steps")
"""Keys of a `TrainConfig` that decide nothing that is computed."""


def train(
    sources: Mapping[str, str],
    tokenizer_uri: str,
    output_uri: str,
    config: TrainConfig,
    *,
    init_uri: str | None = None,
    workspace: Path,
    tracker: Tracker,
) -> Manifest:
    """Train a model and seal it as a `Checkpoint`.

    Killed at any moment and called again with the same arguments, it goes on from its last checkpoint in
    `workspace` and takes the same steps, to the last bit, as if nothing had happened. On another number of
    processes it goes on too, with the same batches and the same steps but for rounding; where `config.averaging` has
    workers train apart, from the means of what they were. SIGTERM makes it save the step in progress and end. Where
    `HEADRACE_CHECKPOINT_MIRROR` names a directory or bucket, checkpoints are copied there, and found there when the
    workspace is lost.

    Every process that torchrun started calls this with the same arguments and sees the same files; the main one
    writes them.

    Args:
        sources: URIs of `TokenShards`, by the names that `config.data.sources` uses.
        tokenizer_uri: The tokenizer that made them.
        output_uri: Where the checkpoint appears once it is complete.
        config: What to train.
        init_uri: Checkpoint to take the weights from, and nothing else; drawn where None.
        workspace: Durable directory for resumable checkpoints, `losses.jsonl` and `ledger.bin`, shared by any
            number of runs.
        tracker: Told of metrics and progress.

    Raises:
        ConfigError: Sources that the configuration does not name, or an output that cannot be written.
        MismatchError: Shards, tokenizer, parent and model that do not belong together.
        IntegrityError: An input that is missing or damaged.
        UnavailableError: Another process trains with the same arguments in the same workspace, a checkpoint cannot
            be written there or finds no room, or the mirror does not answer.
        TrainingError: Weights that are not finite, or a step that would do harm and may not be skipped.
        Interrupted: SIGTERM came; the steps so far are saved.
    """
    resident.keep_freed()
    replicas = launch()
    inputs = open_inputs(sources, tokenizer_uri, init_uri, config)
    about = identity(inputs, config)
    home = checkpoints.workspace_of(workspace, about)
    with contextlib.ExitStack() as stack:
        if replicas.is_main:
            stack.enter_context(checkpoints.claimed(home))
        told_to_stop = stack.enter_context(Interruption())
        run = Run(inputs, config, replicas)
        mirror = configured(home, about, config.checkpoints) if replicas.is_main else None
        latest = replicas.agree(lambda: newest(run, home, output_uri, mirror))
        if latest is not None:
            run.restore(latest)
        callbacks = callbacks_of(run, home, latest, tracker, stack)
        saving = checkpoints_of(run, home, mirror, tracker, stack)
        take_steps(run, [*callbacks, saving], saving, told_to_stop)
        saving.finish()
    contents = run.contents(resumable=False)
    return replicas.agree(lambda: checkpoints.write(output_uri, contents))


def take_steps(run: Run, callbacks: Sequence[Callback], saving: Checkpoints, told_to_stop: Interruption) -> None:
    """Take all steps that remain.

    Raises:
        TrainingError: A step that would do harm and may not be skipped.
        Interrupted: SIGTERM came to any process; the steps so far are saved.
    """
    more: dict[str, Any] = {"scale": run.scale, "guard": run.guard, "averaging": run.averaging}
    for batch in run.batches():
        result = take_step(run.model, run.optimizer, batch, run.config, run.step + 1, run.replicas, **more)
        run.finish_step(result)
        for callback in callbacks:
            callback.after_step(result)
        if run.replicas.any(told_to_stop.asked):
            saving.write_now()
            raise stopped_after(run.step)


def newest(run: Run, home: Path, output_uri: str, mirror: Mirror | None) -> Path | None:
    """The checkpoint to go on from, if there is room for more: the workspace's, or the mirror's where it is newer."""
    checkpoints.require_room(home, run.resumable_bytes())
    checkpoints.require_room(output_uri, 0)
    latest = checkpoints.find_latest(home)
    return latest if mirror is None else mirror.bring_newer(latest)


def identity(inputs: Inputs, config: TrainConfig) -> dict[str, object]:
    """What decides every bit of a run: its inputs, and its configuration but for how it logs and saves."""
    decisive = {key: value for key, value in encode(config).items() if key not in INDECISIVE}
    return {"config": decisive, "inputs": inputs.digests}


def callbacks_of(
    run: Run, home: Path, latest: Path | None, tracker: Tracker, stack: contextlib.ExitStack
) -> list[Callback]:
    """What is told of each step, in this order; `stack` closes them.

    The main process alone has any.
    """
    if not run.replicas.is_main:
        return []
    callbacks = [*logs_of(run, home, latest, tracker), *shown_by(run, tracker)]
    for callback in callbacks:
        stack.callback(callback.close)
    return callbacks


def logs_of(run: Run, home: Path, latest: Path | None, tracker: Tracker) -> Iterator[Callback]:
    """What writes files in the workspace, from the step on that the run has reached."""
    feeder = run.feeder
    yield LossLog(home, run.step)
    yield Curves(home, tracker)
    yield SkippedLog(home, run.step, feeder.fed_documents, lambda: run.guard.skipped, tracker)
    if run.replicas.link is not None:
        yield Traffic(run.replicas.link, home, run.step, tracker, run.config.log_every_steps)
    ledger = feeder.keep_ledger(home / LEDGER_FILE, run.step, None if latest is None else latest / LEDGER_FILE)
    yield Feed(ledger, feeder.fed)
    if (steps := profiled_steps()) is not None:
        yield Profile(steps, home, tracker, run.step)


def shown_by(run: Run, tracker: Tracker) -> Iterator[Callback]:
    """What a reader follows: metrics, a line of progress and, on a terminal, a bar."""
    devices = 1 if run.replicas.mesh is None else run.replicas.mesh.size()
    throughput = Throughput(run.config, run.replicas.device, devices)
    yield Metrics(tracker, run.config.log_every_steps, lambda *span: run.feeder.measured() | throughput.measured(*span))
    yield Progress(tracker.progress, run.config.steps)
    if sys.stderr.isatty():
        yield Bar(run.config.steps)


def checkpoints_of(
    run: Run, home: Path, mirror: Mirror | None, tracker: Tracker, stack: contextlib.ExitStack
) -> Checkpoints:
    """What saves the run in its workspace and its mirror; `stack` closes it.

    The main process alone writes; the others hand it their part of every checkpoint.
    """
    config, writer = run.config, None
    if run.replicas.is_main:
        writer = CheckpointWriter(
            lambda contents: checkpoints.save(home, contents, config.checkpoints), mirror.copy if mirror else None
        )
    saving = Checkpoints(lambda: run.contents(resumable=True), writer, config.checkpoint_every_steps, tracker)
    stack.callback(saving.close)
    return saving
