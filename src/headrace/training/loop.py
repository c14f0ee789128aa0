"""Training, from opened inputs to a sealed checkpoint."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist

from headrace import checkpoints, resident, storage
from headrace.artifacts import Manifest
from headrace.config import encode
from headrace.errors import UnavailableError
from headrace.tracking import Tracker
from headrace.training.circle import lost
from headrace.training.config import TrainConfig
from headrace.training.duties import Duties
from headrace.training.inputs import Inputs, open_inputs
from headrace.training.interruption import Interruption, left_after, stopped_after
from headrace.training.joining import Word, pass_on, pass_word, take_in
from headrace.training.link import Link
from headrace.training.membership import RunOver
from headrace.training.parallel import launch
from headrace.training.run import Run
from headrace.training.step import take_step

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
    workers train apart, from the means of what they were. SIGTERM makes it save the step in progress and end; of
    workers that come and go (`membership.py`) it ends those that it reaches, and the last of them saves. Where
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
        told_to_stop = stack.enter_context(Interruption())
        stack.enter_context(losses_told())
        run = Run(inputs, config, replicas)
        duties = Duties(run, home, about, output_uri, tracker, stack)
        with contextlib.suppress(RunOver):
            find_state(run, duties, home.name, stack)
            take_steps(run, duties, told_to_stop)
            duties.saving.finish()
            seal(run, duties, output_uri)
    return storage.read_manifest(output_uri)


@contextlib.contextmanager
def losses_told() -> Iterator[None]:
    """Tell in one line that a collective failed, which says that another process is gone.

    Raises:
        UnavailableError: It did.
    """
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "/gloo/" in str(error)):
            raise
        raise UnavailableError(lost(str(error))) from error


def find_state(run: Run, duties: Duties, name: str, stack: contextlib.ExitStack) -> None:
    """Bring a run to where it goes on: its newest checkpoint, or the step of those who train it already."""
    link = run.replicas.link
    if link is not None:
        link.enter(name)
        stack.callback(link.circle.leave)
        if link.rank in link.circle.newcomers:
            pass_on(link, run.handed_over, run.join)
            link.share_out()
            return
    latest = run.replicas.agree(duties.newest)
    if latest:
        run.restore(Path(latest))
    duties.begin(Path(latest) if latest else None)
    if link is not None:
        link.share_out()


def take_steps(run: Run, duties: Duties, told_to_stop: Interruption) -> None:
    """Take all steps that remain.

    Raises:
        TrainingError: A step that would do harm and may not be skipped.
        Interrupted: SIGTERM came to any process, and the steps so far are saved; or, where workers come and go, to
            this one.
    """
    more: dict[str, Any] = {"scale": run.scale, "guard": run.guard, "averaging": run.averaging}
    for batch in run.batches():
        result = take_step(run.model, run.optimizer, batch, run.config, run.step + 1, run.replicas, **more)
        run.finish_step(result)
        word = pass_word(run, duties, result, told_to_stop.asked)
        duties.saving.after_step(result)
        if word.ends:
            duties.saving.write_now()
            raise stopped_after(run.step)
        if run.replicas.link is not None:
            go_and_come(run, run.replicas.link, word)


def go_and_come(run: Run, link: Link, word: Word) -> None:
    """Leave the others or take newcomers in, as all have heard.

    Raises:
        Interrupted: This worker leaves.
    """
    if word.leaves:
        link.circle.leave()
        raise left_after(run.step)
    if word.invited:
        take_in(run, link, word)


def seal(run: Run, duties: Duties, output_uri: str) -> None:
    """Write the checkpoint that the run publishes, and part."""
    contents = run.contents(resumable=False)

    def write() -> str:
        last = run.contents(resumable=False) if duties.take_over(run.step) else contents
        return checkpoints.write(output_uri, last).digest

    run.replicas.agree(write)
    if run.replicas.link is not None:
        run.replicas.link.circle.finish()


def identity(inputs: Inputs, config: TrainConfig) -> dict[str, object]:
    """What decides every bit of a run: its inputs, and its configuration but for how it logs and saves."""
    decisive = {key: value for key, value in encode(config).items() if key not in INDECISIVE}
    return {"config": decisive, "inputs": inputs.digests}
