"""Acts upon a model: looked at, decided, added to its trail, and looked at again where somebody came first."""

from collections.abc import Callable
from dataclasses import dataclass

from headrace.errors import ConfigError, UnavailableError
from headrace.mlflow_server import authority_told
from headrace.registry import trail as trails
from headrace.registry.alignment import settle
from headrace.registry.entry import Action, Entry
from headrace.registry.marks import VERDICT
from headrace.registry.trail import Trail
from headrace.registry.versions import Model, Version, known


@dataclass(frozen=True, kw_only=True, slots=True)
class Act:
    """What is to be done to a version, and where the aliases stand afterwards."""

    action: Action
    version: Version
    aliases: dict[str, int]
    champion: str = ""
    """Digest of the checkpoint that the verdict was held against."""
    approvers: tuple[str, ...] = ()


@authority_told()
def perform(name: str, decide: Callable[[Model], Act | None], reason: str = "") -> Entry | None:
    """Do what `decide` says of the model as it stands; it is asked again where somebody else acted in between.

    Until the entry is added nothing has moved; from then on everything has, and a killed process loses no more
    than MLflow's own aliases and tags, which the next act sets.

    Args:
        name: The registered model.
        decide: Gives the act, None where nothing is left to do, or raises what speaks against it.
        reason: Why, for the trail.

    Returns:
        The entry; None where there was nothing to do.

    Raises:
        ConfigError: No such model, or it has no trail.
        AuthorityError: MLflow does not let whoever acts; nothing has moved.
        UnavailableError: MLflow does not answer; the message says whether anything has moved.
    """
    while True:
        model = known(name)
        trail = _trail(model)
        act = decide(model)
        entry = None if act is None else _entry(trail, act, reason)
        if entry is None or trails.append(trail, entry):
            _follow(name, entry)
            return entry


def _entry(trail: Trail, act: Act, reason: str) -> Entry:
    return trail.next(
        act.action,
        act.aliases,
        reason,
        version=act.version.number,
        checkpoint=act.version.checkpoint,
        verdict=act.version.tags.get(VERDICT, ""),
        champion=act.champion,
        approvers=act.approvers,
    )


def _trail(model: Model) -> Trail:
    if model.trail is None:
        raise ConfigError(
            f"{model.name} has no audit trail: something else than this release of headrace registered it. Use another "
            "name, or delete it."
        )
    return model.trail


def _follow(name: str, entry: Entry | None) -> None:
    try:
        settle(name)
    except UnavailableError as error:
        done = f"The {entry.action} of version {entry.version} is recorded" if entry else "Nothing was left to do"
        raise UnavailableError(
            f"{done}, and MLflow went away before its aliases followed. Run `headrace models audit {name} --settle`. "
            f"({error})"
        ) from error
