"""What is registered: versions with their tags and aliases, found by name and reference."""

from dataclasses import dataclass
from typing import Any

from headrace.config import nearest
from headrace.errors import ConfigError
from headrace.mlflow_server import client

CHAMPION, PREVIOUS = "champion", "previous"
CHECKPOINT, VERDICT, EVIDENCE = "headrace.checkpoint", "headrace.verdict", "headrace.evidence"
REPLACED, PROMOTED_AT, ROLLED_BACK = "headrace.replaced", "headrace.promoted_at", "headrace.rolled_back"


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


def names() -> list[str]:
    """All registered model names, sorted."""
    found: list[str] = []
    token: str | None = None
    while token is None or token:
        page = client().search_registered_models(max_results=1000, page_token=token)
        found, token = found + [model.name for model in page], page.token or ""
    return sorted(found)


def versions(name: str) -> list[Version]:
    """Every version of a model, oldest first.

    Raises:
        ConfigError: No model of that name is registered.
    """
    aliases = aliases_of(name)
    found = client().search_model_versions(f"name = '{name}'", max_results=10_000)
    return sorted((_version(entry, aliases) for entry in found), key=lambda version: version.number)


def aliases_of(name: str) -> dict[str, int]:
    """Which version each alias of a model names.

    Raises:
        ConfigError: No model of that name is registered.
    """
    if name not in names():
        raise ConfigError(f"No model {name!r} is registered. {nearest(name, names())}")
    return {alias: int(number) for alias, number in client().get_registered_model(name).aliases.items()}


def _version(entry: Any, aliases: dict[str, int]) -> Version:
    number = int(entry.version)
    return Version(
        name=entry.name,
        number=number,
        aliases=tuple(sorted(alias for alias, at in aliases.items() if at == number)),
        tags=dict(entry.tags),
        run_id=entry.run_id or "",
        created_ms=int(entry.creation_timestamp),
    )


def resolve(reference: str) -> Version:
    """Find the version that `NAME@alias` or `NAME/N` means.

    Raises:
        ConfigError: The form, name, alias or number is unknown; the message names the nearest.
    """
    name, at, alias = reference.removeprefix("models:/").partition("@")
    if at:
        aliases = aliases_of(name)
        if alias not in aliases:
            raise ConfigError(f"{name} has no alias {alias!r}. {nearest(alias, aliases)}")
        return numbered(name, aliases[alias])
    name, slash, number = name.partition("/")
    if not slash or not number.isdecimal():
        raise ConfigError(f"{reference!r} names no version. Write NAME@alias or NAME/NUMBER.")
    return numbered(name, int(number))


def numbered(name: str, number: int) -> Version:
    """The version of that number.

    Raises:
        ConfigError: There is none.
    """
    known = {version.number: version for version in versions(name)}
    if number not in known:
        raise ConfigError(f"{name} has no version {number}. Known: {', '.join(map(str, known)) or 'none'}.")
    return known[number]


def champion(name: str) -> Version | None:
    """The version served now; None where nothing was ever promoted."""
    if name not in names():
        return None
    return next((version for version in versions(name) if CHAMPION in version.aliases), None)
