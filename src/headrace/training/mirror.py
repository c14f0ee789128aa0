"""Copies of a run's checkpoints in another place, for when the workspace goes with its machine."""

import json
import logging
import os
from pathlib import Path
from typing import Any

from headrace import buckets, checkpoints, storage, transfer
from headrace.artifacts import Checkpoint
from headrace.checkpoints import CheckpointPolicy
from headrace.errors import HeadraceError, IntegrityError, UnavailableError

MIRROR = "HEADRACE_CHECKPOINT_MIRROR"
"""Environment variable: a directory or `gs://bucket/prefix` shared by any number of runs."""
FAILURES = 3
"""Checkpoints in a row whose copies fail before the run ends: an outage of minutes costs nothing."""

log = logging.getLogger(__name__)


class Mirror:
    """Where every checkpoint of one run is copied once it is sealed, and kept by the same policy.

    Args:
        root: A directory or `gs://bucket/prefix`; the run's own place in it bears the workspace's name.
        home: The run's workspace.
        about: JSON values that tell a reader what run this is.
        policy: Which copies are kept.

    Raises:
        UnavailableError: Nothing can be written there.
    """

    def __init__(self, root: str, home: Path, about: Any, policy: CheckpointPolicy) -> None:
        self._uri, self._home, self._policy = f"{root.rstrip('/')}/{home.name}", home, policy
        self._failed = 0
        try:
            transfer.put_text(f"{self._uri}/run.json", json.dumps(about, indent=1, sort_keys=True) + "\n")
        except OSError as error:
            raise UnavailableError(f"{root} cannot be written ({error.strerror}). Set another {MIRROR}.") from error
        self._losses = {checkpoints.step_of(name): self._loss(name) for name in self._names()}

    def _names(self) -> list[str]:
        return [name for name in transfer.names(self._uri) if name.startswith("step-")]

    def _loss(self, name: str) -> float | None:
        try:
            loss: float | None = storage.read_manifest(f"{self._uri}/{name}").facts.loss
        except IntegrityError:
            return None
        return loss

    def bring_newer(self, latest: Path | None) -> Path | None:
        """Fetch the newest whole checkpoint into the workspace where it is newer than `latest` there.

        Returns:
            What to resume from.
        """
        here = checkpoints.step_of(latest.name) if latest else 0
        for step in sorted((step for step in self._losses if step > here), reverse=True):
            name = checkpoints.directory_of(step)
            try:
                transfer.copy(f"{self._uri}/{name}", self._home / name)
                return storage.read(self._home / name, Checkpoint).path
            except IntegrityError as error:
                log.warning("%s of the mirror cannot be resumed from, trying the one before. %s", name, error)
        return latest

    def copy(self, path: Path) -> None:
        """Copy a checkpoint and drop those before it that are not to be kept.

        Raises:
            UnavailableError: This and the ones before it could not be copied.
        """
        try:
            manifest = transfer.copy(path, f"{self._uri}/{path.name}")
            self._losses[checkpoints.step_of(path.name)] = manifest.facts.loss
            self._prune(checkpoints.step_of(path.name))
        except (HeadraceError, OSError) as error:
            self._failed += 1
            if self._failed >= FAILURES:
                raise UnavailableError(
                    f"{FAILURES} checkpoints in a row could not be copied: {error} The newest stands in {self._home}; "
                    f"mend or unset {MIRROR}, and run the same again to go on from it."
                ) from error
            log.warning("%s stands in %s alone. %s", path.name, self._home, error)
        else:
            self._failed = 0

    def _prune(self, newest: int) -> None:
        past = {step: loss for step, loss in self._losses.items() if step <= newest}
        for step in past.keys() - self._policy.kept(past):
            transfer.remove(f"{self._uri}/{checkpoints.directory_of(step)}")
            del self._losses[step]


def configured(home: Path, about: Any, policy: CheckpointPolicy) -> Mirror | None:
    """The mirror that the environment names."""
    root = os.environ.get(MIRROR)
    if not root:
        return None
    return Mirror(root if buckets.is_bucket(root) else str(Path(root).absolute()), home, about, policy)
