"""Training, from opened inputs to a sealed checkpoint."""

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path

from headrace import checkpoints
from headrace.artifacts import LEDGER_FILE, Manifest
from headrace.config import encode
from headrace.tracking import Tracker
from headrace.training.callbacks import Bar, Callback, Checkpoints, Feed, LossLog, Metrics, Progress
from headrace.training.config import TrainConfig
from headrace.training.inputs import Inputs, open_inputs
from headrace.training.parallel import launch
from headrace.training.run import Run
from headrace.training.step import take_step


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
    processes it goes on too, with the same batches and the same steps but for rounding.

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
        ConfigError: Sources that the configuration does not name.
        MismatchError: Shards, tokenizer, parent and model that do not belong together.
        IntegrityError: An input that is missing or damaged.
        UnavailableError: Another process trains with the same arguments in the same workspace.
        TrainingError: Weights, a loss or a gradient that is not finite.
    """
    replicas = launch()
    inputs = open_inputs(sources, tokenizer_uri, init_uri, config)
    home = checkpoints.workspace_of(workspace, identity(inputs, config))
    with contextlib.ExitStack() as stack:
        if replicas.is_main:
            stack.enter_context(checkpoints.claimed(home))
        run = Run(inputs, config, replicas)
        latest = replicas.agree(lambda: checkpoints.find_latest(home))
        if latest is not None:
            run.restore(latest)
        callbacks = callbacks_of(run, home, latest, tracker, stack)
        for batch in run.batches():
            result = take_step(run.model, run.optimizer, batch, config, run.step + 1, replicas, run.scale)
            run.record(result)
            for callback in callbacks:
                callback.after_step(result)
    contents = run.contents(resumable=False)
    return replicas.agree(lambda: checkpoints.write(output_uri, contents))


def identity(inputs: Inputs, config: TrainConfig) -> dict[str, object]:
    """What decides every bit of a run: its inputs, and its configuration but for how often it logs and saves."""
    values = encode(config)
    decisive = {key: values[key] for key in values if key not in ("checkpoint_every_steps", "log_every_steps")}
    return {"config": decisive, "inputs": inputs.digests}


def callbacks_of(
    run: Run, home: Path, latest: Path | None, tracker: Tracker, stack: contextlib.ExitStack
) -> list[Callback]:
    """What is told of each step, in this order; `stack` closes them.

    The main process alone writes anything; the others hand it their part of every checkpoint.
    """
    config = run.config
    if not run.replicas.is_main:
        return [Checkpoints(lambda: run.contents(resumable=True), config.checkpoint_every_steps)]
    ledger = run.keep_ledger(home / LEDGER_FILE, None if latest is None else latest / LEDGER_FILE)
    callbacks = [
        LossLog(home, run.step),
        Feed(ledger, run.fed),
        Metrics(tracker, config.log_every_steps, run.cut),
        Progress(tracker.progress, config.steps),
        Checkpoints(lambda: checkpoints.save(home, run.contents(resumable=True)), config.checkpoint_every_steps),
    ]
    if sys.stderr.isatty():
        callbacks.append(Bar(config.steps))
    for callback in callbacks:
        stack.callback(callback.close)
    return callbacks
