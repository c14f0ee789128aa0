"""What a checkpoint's weights come from: the shards that each stage of their training was given, oldest first.

Every checkpoint carries the stages of its parent and its own, so that what trained it is known where the parents
themselves are not at hand.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from headrace.artifacts import STATE_FILE, Checkpoint, TokenShards
from headrace.config import decode
from headrace.storage import Stored

STAGES = "stages"
"""Their key within a checkpoint's `state.json`."""
PIECE = "shards_"
"""How the roles of joined pieces begin among the parents of `TokenShards`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """One artifact of shards that a stage was given."""

    digest: str
    pieces: tuple[str, ...] = ()
    """Digests of the shards it was joined from; empty where it was made whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One run of training."""

    init: str | None
    """Digest of the checkpoint whose weights it began with; None where they were drawn."""
    shards: dict[str, Given]
    """By the name that the stage's configuration calls them."""


def stage(shards: Mapping[str, Stored[TokenShards]], parent: Stored[Checkpoint] | None) -> Stage:
    """Describe a run that starts from `parent`, or from drawn weights, and reads `shards`."""
    given = {name: _given(stored) for name, stored in shards.items()}
    return Stage(init=None if parent is None else parent.digest, shards=given)


def _given(stored: Stored[TokenShards]) -> Given:
    parents = stored.manifest.parents
    return Given(
        digest=stored.digest, pieces=tuple(parents[role] for role in sorted(parents) if role.startswith(PIECE))
    )


def stages_of(checkpoint: Stored[Checkpoint]) -> tuple[Stage, ...]:
    """Every stage that a checkpoint knows of, oldest first; none where it was trained elsewhere.

    Where the oldest has an `init`, nobody recorded what that checkpoint was trained on.
    """
    if STATE_FILE not in checkpoint.manifest.files:
        return ()
    state = json.loads((checkpoint.path / STATE_FILE).read_text())
    return tuple(decode(Stage, values) for values in state.get(STAGES, ()))
