"""What is registered: versions with their tags and aliases, found by name and reference.

Where a model has a trail, what the trail says goes before what MLflow's own aliases and tags say: these
follow it, and may lag behind a promotion that was killed or differ by somebody's hand.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.config import nearest
from headrace.errors import ConfigError
from headrace.mlflow_server import authority_told, client
from headrace.registry import trail as trails
from headrace.registry.marks import CHECKPOINT, marks
from headrace.registry.trail import Trail

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"
OURS = (CHALLENGER, PREVIOUS, CHAMPION)
"""Aliases that nothing but the trail decides."""
EVIDENCE = "headrace.evidence"


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """One registered version as the registry has it."""

    name: str
    number: int
    aliases: tuple[str, ...]
    tags: dict[str, str]
    run_id: str
    created_ms: int

    @property
    def checkpoint(self) -> str:
        """Digest of its checkpoint."""
        return self.tags.get(CHECKPOINT, "")

    @property
    def uri(self) -> str:
        """`models:/NAME/N`."""
        return f"models:/{self.name}/{self.number}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """One registered model: its versions, oldest first, and its trail."""

    name: str
    trail: Trail | None
    """None where something else than headrace has registered it."""
    versions: tuple[Version, ...] = ()

    def aliased(self, alias: str) -> Version | None:
        """The version that an alias names."""
        return next((version for version in self.versions if alias in version.aliases), None)

    def numbered(self, number: int) -> Version | None:
        """The version of that number."""
        return next((version for version in self.versions if version.number == number), None)


def names() -> list[str]:
    """All registered model names, sorted."""
    found: list[str] = []
    token: str | None = None
    while token is None or token:
        page = client().search_registered_models(max_results=1000, page_token=token)
        found, token = found + [model.name for model in page], page.token or ""
    return sorted(found)


@authority_told()
def look(name: str) -> Model | None:
    """A model as it stands; None where none of that name is registered.

    Raises:
        IntegrityError: Its audit trail is broken.
        AuthorityError: MLflow does not let whoever asks see it.
    """
    from mlflow.exceptions import MlflowException

    try:
        registered = client().get_registered_model(name)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    trail = trails.read(name, registered.tags)
    aliases = {alias: int(number) for alias, number in registered.aliases.items()}
    if trail is not None:
        aliases = {alias: number for alias, number in aliases.items() if alias not in OURS} | trail.aliases
    marked = marks(trail.entries) if trail is not None else {}
    found = client().search_model_versions(f"name = '{name}'", max_results=10_000)
    made = sorted((_version(entry, aliases, marked) for entry in found), key=lambda version: version.number)
    return Model(name=name, trail=trail, versions=tuple(made))


def _version(entry: Any, aliases: Mapping[str, int], marked: Mapping[int, Mapping[str, str]]) -> Version:
    number = int(entry.version)
    return Version(
        name=entry.name,
        number=number,
        aliases=tuple(sorted(alias for alias, at in aliases.items() if at == number)),
        tags={**entry.tags, **marked.get(number, {})},
        run_id=entry.run_id or "",
        created_ms=int(entry.creation_timestamp),
    )


def known(name: str) -> Model:
    """A model as it stands.

    Raises:
        ConfigError: No model of that name is registered.
    """
    model = look(name) if name else None
    if model is None:
        raise ConfigError(f"No model {name!r} is registered. {nearest(name, names())}")
    return model


def versions(name: str) -> list[Version]:
    """Every version of a model, oldest first.

    Raises:
        ConfigError: No model of that name is registered.
    """
    return list(known(name).versions)


def resolve(reference: str) -> Version:
    """Find the version that `NAME@alias` or `NAME/N` means.

    Raises:
        ConfigError: The form, name, alias or number is unknown; the message names the nearest.
    """
    name, at, alias = reference.removeprefix("models:/").partition("@")
    if at:
        model = known(name)
        found = model.aliased(alias)
        if found is None:
            aliases = {alias for version in model.versions for alias in version.aliases}
            raise ConfigError(f"{name} has no alias {alias!r}. {nearest(alias, aliases)}")
        return found
    name, slash, number = name.partition("/")
    if not slash or not number.isdecimal():
        raise ConfigError(f"{reference!r} names no version. Write NAME@alias or NAME/NUMBER.")
    model = known(name)
    found = model.numbered(int(number))
    if found is None:
        numbers = ", ".join(str(version.number) for version in model.versions)
        raise ConfigError(f"{name} has no version {number}. Known: {numbers or 'none'}.")
    return found


def champion(name: str) -> Version | None:
    """The version served now; None where nothing was ever promoted."""
    model = look(name)
    return model.aliased(CHAMPION) if model else None
