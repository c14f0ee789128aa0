"""Checkpoints as sealed directories: written whole or not at all, verified before they are used.

The checkpoint a run publishes and the ones it may resume from are both a `Checkpoint` artifact of weights,
state and tokenizer, so any of them can be evaluated or served. A resumable one has the optimizer's moments
too, twice the size of the weights, which nobody needs from a published one. Resumable ones lie under a
workspace as `step-00000100`, in a directory named by what the run computes: runs that differ never meet.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace import buckets, storage
from headrace.artifacts import (
    LEDGER_FILE,
    MODEL_FILE,
    OPTIMIZER_FILE,
    STATE_FILE,
    TOKENIZER_FILE,
    Checkpoint,
    Manifest,
)
from headrace.errors import ConfigError, IntegrityError, UnavailableError

if TYPE_CHECKING:
    from torch import Tensor

COPY_BYTES = 2**22

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointPolicy:
    """Which resumable checkpoints stay once a newer one is sealed; it decides nothing that is computed.

    Raises:
        ConfigError: Fewer than one of the newest, or a negative number.
    """

    newest: int = 2
    """How many of the newest: two, so that a damaged one leaves another."""
    every_steps: int = 0
    """For good, those whose step is a multiple of this; 0 for none."""
    best: int = 0
    """How many of those with the lowest mean training loss over the steps before."""

    def __post_init__(self) -> None:
        if self.newest < 1 or min(self.every_steps, self.best) < 0:
            raise ConfigError(
                f"newest={self.newest}, every_steps={self.every_steps} and best={self.best} of checkpoints need to be "
                "at least 1, 0 and 0."
            )

    def kept(self, losses: Mapping[int, float | None]) -> set[int]:
        """The steps to keep of those given with their losses; None where a loss is not known."""
        steps = sorted(losses)
        ranked = sorted((loss, step) for step, loss in losses.items() if loss is not None)
        always = [step for step in steps if self.every_steps and step % self.every_steps == 0]
        return {*steps[-self.newest :], *always, *(step for _, step in ranked[: self.best])}


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """What a checkpoint is made of."""

    facts: Checkpoint
    parents: Mapping[str, str]
    """Digests of the artifacts it was trained from, by role."""
    model: Mapping[str, "Tensor"]
    """Weights by name."""
    optimizer: Mapping[str, "Tensor"] | None
    """Optimizer moments by name; None where training does not go on from here."""
    workers: Mapping[str, Mapping[str, "Tensor"]] = field(default_factory=dict)
    """Further tensors by file, where workers hold weights of their own; nobody else may hold these."""
    state: Mapping[str, Any]
    """JSON values: the rest of what continuing needs."""
    tokenizer: Path
    """The `tokenizer.json` to keep beside the weights."""
    ledger: Path | None = None
    """The record of what every step so far was fed; None where nothing was trained."""
    ledger_bytes: int = 0
    """How much of it belongs to these steps: it grows while a checkpoint is written."""


def workspace_of(root: Path, arguments: Any) -> Path:
    """The directory under `root` for runs with exactly these arguments.

    Args:
        root: Durable directory, shared by any number of runs.
        arguments: JSON values that decide what is computed, digests of inputs included.
    """
    text = json.dumps(arguments, sort_keys=True)
    directory = root / hashlib.sha256(text.encode()).hexdigest()[:16]
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@contextlib.contextmanager
def claimed(workspace: Path) -> Iterator[None]:
    """Keep a workspace, cleared of half-written checkpoints, to this process while the block runs.

    The claim ends with the process, however that ends.

    Raises:
        UnavailableError: Another process trains with the same arguments.
    """
    with (workspace / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UnavailableError(
                f"{workspace} is in use: another process trains with the same arguments. Wait for it or stop it."
            ) from error
        for leftover in workspace.glob("*.partial-*"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        yield


def require_room(place: str | Path, size: int) -> None:
    """Refuse a place where files of `size` bytes cannot be written, before anything is computed for them.

    Args:
        place: A directory, or what will be one; a bucket is not asked.
        size: Bytes.

    Raises:
        ConfigError: It cannot be written.
        UnavailableError: Its disk has less room.
    """
    if buckets.is_bucket(str(place)):
        return
    folder = Path(place).absolute()
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"{place} cannot be written: {folder} does not let us. Give another directory.")
    free = shutil.disk_usage(folder).free
    if free < size:
        raise UnavailableError(
            f"A checkpoint takes {size / 1e6:,.1f} MB, and the disk of {place} has {free / 1e6:,.1f} MB left. "
            "Make room or give another directory."
        )


def write(uri: str | Path, contents: Contents) -> Manifest:
    """Seal a checkpoint at `uri`; equal contents give equal bytes and so the same digest."""
    from safetensors.torch import save_file

    with storage.writing(uri) as tree:
        files = {MODEL_FILE: contents.model, OPTIMIZER_FILE: contents.optimizer, **contents.workers}
        for name, tensors in files.items():
            if tensors is None:
                continue
            save_file(dict(tensors), tree.path / name, metadata={"format": "pt"})
            # safetensors leaves its files to their owner alone; a server may run as someone else.
            (tree.path / name).chmod(0o644)
        (tree.path / STATE_FILE).write_text(json.dumps(contents.state, sort_keys=True) + "\n")
        (tree.path / TOKENIZER_FILE).write_bytes(contents.tokenizer.read_bytes())
        if contents.ledger is not None:
            _copy_beginning(contents.ledger, tree.path / LEDGER_FILE, contents.ledger_bytes)
        return tree.commit(contents.facts, contents.parents)


def _copy_beginning(source: Path, target: Path, size: int) -> None:
    with source.open("rb") as reader, target.open("wb") as writer:
        while size and (block := reader.read(min(size, COPY_BYTES))):
            size -= writer.write(block)


def save(workspace: Path, contents: Contents, policy: CheckpointPolicy | None = None) -> Path:
    """Write a resumable checkpoint, and drop those before it that the policy does not keep."""
    path = workspace / directory_of(contents.facts.step)
    if not storage.exists(path):
        shutil.rmtree(path, ignore_errors=True)  # a damaged one may have lost its manifest
    write(path, contents)
    # Newer ones that are damaged stay until their steps are taken again, and count for nothing here.
    losses = {step_of(p.name): _loss_of(p) for p in _resumable(workspace) if p.name <= path.name}
    for step in losses.keys() - (policy or CheckpointPolicy()).kept(losses):
        shutil.rmtree(workspace / directory_of(step))
    return path


def directory_of(step: int) -> str:
    """What the checkpoint of a step is called in its workspace."""
    return f"step-{step:08d}"


def step_of(name: str) -> int:
    """The step that a checkpoint's directory is named by."""
    return int(name.removeprefix("step-"))


def _loss_of(path: Path) -> float | None:
    try:
        loss: float | None = storage.read_manifest(path).facts.loss
    except (IntegrityError, UnicodeDecodeError):
        return None
    return loss


def find_latest(workspace: Path) -> Path | None:
    """The newest checkpoint whose every byte is as written; a damaged one is passed over with a warning."""
    for path in reversed(_resumable(workspace)):
        try:
            return storage.read(path, Checkpoint).path
        except (IntegrityError, UnicodeDecodeError) as error:
            log.warning("%s cannot be resumed from, trying the one before. %s", path.name, error)
    return None


def read_tensors(path: Path, name: str) -> dict[str, "Tensor"]:
    """The tensors of one file of a checkpoint that `find_latest` found whole, on the CPU."""
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = load_file(path / name)
    return tensors


def read_state(path: Path) -> dict[str, Any]:
    """The JSON values a checkpoint was written with."""
    state: dict[str, Any] = json.loads((path / STATE_FILE).read_text())
    return state


def _resumable(workspace: Path) -> list[Path]:
    """Checkpoint directories, oldest first; half-written ones bear other names."""
    return sorted(path for path in workspace.glob("step-????????") if path.is_dir())
