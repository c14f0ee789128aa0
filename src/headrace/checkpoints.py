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
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace import storage
from headrace.artifacts import (
    LEDGER_FILE,
    MODEL_FILE,
    OPTIMIZER_FILE,
    STATE_FILE,
    TOKENIZER_FILE,
    Checkpoint,
    Manifest,
)
from headrace.errors import IntegrityError, UnavailableError

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 2
"""Resumable checkpoints kept, so that a damaged one leaves another."""
COPY_BYTES = 2**22

log = logging.getLogger(__name__)


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


def write(uri: str | Path, contents: Contents) -> Manifest:
    """Seal a checkpoint at `uri`; equal contents give equal bytes and so the same digest."""
    from safetensors.torch import save_file

    with storage.writing(uri) as tree:
        for name, tensors in ((MODEL_FILE, contents.model), (OPTIMIZER_FILE, contents.optimizer)):
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


def save(workspace: Path, contents: Contents) -> Path:
    """Write a resumable checkpoint and drop those before it but for the newest."""
    path = workspace / f"step-{contents.facts.step:08d}"
    if not storage.exists(path):
        shutil.rmtree(path, ignore_errors=True)  # a damaged one may have lost its manifest
    write(path, contents)
    older = [other for other in _resumable(workspace) if other.name < path.name]
    for other in older[: len(older) - KEPT + 1]:
        shutil.rmtree(other)
    return path


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
