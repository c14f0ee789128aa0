"""MLflow's own aliases and tags made to say what the trail says."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from headrace.mlflow_server import client
from headrace.registry import trail as trails
from headrace.registry.marks import marks
from headrace.registry.trail import HEAD, Trail
from headrace.registry.versions import OURS


class Difference(NamedTuple):
    """Something that MLflow has otherwise than the trail."""

    told: str
    """One sentence for a reader."""
    mend: Callable[[], object]


def differences(name: str) -> list[Difference]:
    """All there are, in the order in which to mend them: `champion` moves last."""
    registered = client().get_registered_model(name)
    trail = trails.read(name, registered.tags)
    return [] if trail is None else list(_differences(trail, registered.aliases, registered.tags.get(HEAD, "")))


def settle(name: str) -> None:
    """Mend every difference, again if somebody added an entry meanwhile: whoever writes last has looked since."""
    head = None
    while True:
        registered = client().get_registered_model(name)
        trail = trails.read(name, registered.tags)
        if trail is None or trail.head == head:
            return
        for difference in _differences(trail, registered.aliases, registered.tags.get(HEAD, "")):
            difference.mend()
        head = trail.head


def _differences(trail: Trail, aliases: dict[str, str], head: str) -> Iterator[Difference]:
    found = {int(entry.version): entry.tags for entry in client().search_model_versions(f"name = '{trail.model}'")}
    for number, wanted in marks(trail.entries).items():
        for key, value in wanted.items():
            if number in found and found[number].get(key, "") != value:
                yield _tag(trail.model, number, key, value)
    for alias in OURS:
        pointed, now = trail.aliases.get(alias, 0), str(aliases.get(alias, ""))
        target = str(pointed) if pointed in found else ""  # somebody may have deleted the version
        if now != target:
            yield _alias(trail.model, alias, now, target)
    if head != trail.head:
        yield Difference(
            f"{trail.model} notes {head.partition(' ')[0] or 'no'} entries, and the trail has {len(trail.entries)}.",
            lambda: client().set_registered_model_tag(trail.model, HEAD, trail.head),
        )


def _tag(name: str, number: int, key: str, value: str) -> Difference:
    return Difference(
        f"Version {number} has another {key} than the trail.",
        lambda: client().set_model_version_tag(name, str(number), key, value),
    )


def _alias(name: str, alias: str, now: str, wanted: str) -> Difference:
    def mend() -> None:
        if wanted:
            client().set_registered_model_alias(name, alias, wanted)
        else:
            client().delete_registered_model_alias(name, alias)

    told = f"Alias {alias} names {f'version {now}' if now else 'nothing'}, and the trail has it name "
    return Difference(f"{told}{f'version {wanted}' if wanted else 'nothing'}.", mend)
