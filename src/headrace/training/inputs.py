"""What a run is given: opened, verified and found to belong together before anything is computed."""

from collections.abc import Mapping
from dataclasses import dataclass

from headrace import storage
from headrace.artifacts import Checkpoint, Tokenizer
from headrace.config import encode
from headrace.data.shards import OpenShards, open_shards
from headrace.errors import MismatchError
from headrace.provenance import Stage, stage, stages_of
from headrace.storage import Stored
from headrace.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """Opened artifacts that belong together."""

    shards: dict[str, OpenShards]
    tokenizer: Stored[Tokenizer]
    parent: Stored[Checkpoint] | None
    """Where the weights start from; None where they are drawn."""
    digests: dict[str, str]
    """Of every artifact above, by role: the parents of what is trained."""
    stages: tuple[Stage, ...]
    """What the weights come from, this run included, oldest first."""


def open_inputs(sources: Mapping[str, str], tokenizer_uri: str, init_uri: str | None, config: TrainConfig) -> Inputs:
    """Open every input and refuse those that do not belong together.

    Args:
        sources: URIs of `TokenShards`, by the names that `config.data.sources` uses.
        tokenizer_uri: The tokenizer that made them.
        init_uri: Checkpoint whose weights to start from.
        config: What will be trained.

    Raises:
        MismatchError: Shards or a parent of another tokenizer, or a parent of another architecture.
        IntegrityError: An artifact that is missing or damaged.
    """
    tokenizer = storage.read(tokenizer_uri, Tokenizer)
    parent = None if init_uri is None else storage.read(init_uri, Checkpoint)
    if parent is not None:
        _refuse_other_model(parent, tokenizer, config)
    shards = {name: open_shards(uri, tokenizer.facts.fingerprint) for name, uri in sources.items()}
    digests = {"tokenizer": tokenizer.digest} | {f"shards_{name}": opened.digest for name, opened in shards.items()}
    digests |= {"init": parent.digest} if parent is not None else {}
    mine = stage({name: opened.stored for name, opened in shards.items()}, parent)
    stages = (*(stages_of(parent) if parent is not None else ()), mine)
    return Inputs(shards=shards, tokenizer=tokenizer, parent=parent, digests=digests, stages=stages)


def _refuse_other_model(parent: Stored[Checkpoint], tokenizer: Stored[Tokenizer], config: TrainConfig) -> None:
    """Weights fit one architecture, and their embedding rows one tokenizer."""
    for key, wanted in encode(config.model).items():
        if parent.facts.model.get(key) != wanted:
            raise MismatchError(
                f"The parent checkpoint has {key}={parent.facts.model.get(key)}, and model.{key}={wanted}. "
                "Configure the parent's model, or start from another checkpoint."
            )
    if parent.facts.tokenizer != tokenizer.facts.fingerprint:
        raise MismatchError(
            f"The parent checkpoint reads the ids of tokenizer {parent.facts.tokenizer}, and this run's is "
            f"{tokenizer.facts.fingerprint}. Tokenize with the parent's."
        )
