"""Which documents a source's name stands for, and whose turn the next row is.

A name is that of the shards handed in ("text") or a source some of them hold ("pile", "p3",
"pile/ArXiv"), which stands for all documents of that source and of its subsets.
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from headrace.config import nearest
from headrace.data.shard_files import OpenShards
from headrace.errors import ConfigError

SUMS = (1.0, 100.0)
"""What the weights of several sources come to: shares, or percent."""
TOLERANCE = 1e-6
"""Part of the sum by which it may be off."""


def check_weights(weights: Mapping[str, float]) -> None:
    """Refuse weights that are no mixture.

    A single source takes everything, whatever its weight.

    Raises:
        ConfigError: A weight that is no positive number, or several that sum to neither 1 nor 100.
    """
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight > 0):
            raise ConfigError(f"Source {name!r} has weight {weight}. Set it above 0 or remove the source.")
    total = math.fsum(weights.values())
    if len(weights) > 1 and not any(math.isclose(total, whole, rel_tol=TOLERANCE) for whole in SUMS):
        given = " + ".join(f"{name} {weight:g}" for name, weight in weights.items())
        scaled = ", ".join(f"{name}={weight / total:.6g}" for name, weight in weights.items())
        raise ConfigError(
            f"The weights of data.sources sum to {total:.9g} ({given}), and shares sum to 1, percents to 100. "
            f"Add what is missing, or keep the proportions with {scaled}."
        )


def needed(shards: Iterable[str], names: Iterable[str]) -> list[str]:
    """Which shards a mixture reads, as far as names tell: all, where one names a source within them."""
    asked = set(names)
    return [name for name in shards if name in asked or not asked <= set(shards)]


class Selected(NamedTuple):
    """What a source's name stands for."""

    shards: str
    """Name of the shards that hold its documents."""
    documents: OpenShards
    """The documents: those shards, or a view of them."""


def select_sources(shards: Mapping[str, OpenShards], names: Iterable[str]) -> dict[str, Selected]:
    """Find the documents of each name.

    Raises:
        ConfigError: A name that stands for nothing or for documents of two shards, or shards that no name
            takes from.
    """
    selected = {name: _select(shards, name) for name in names}
    used = {found.shards for found in selected.values()}
    for name in shards:
        if name not in used:
            raise ConfigError(f"data.sources says nothing of the shards {name!r}. {nearest(name, selected)}")
    return selected


def _select(shards: Mapping[str, OpenShards], name: str) -> Selected:
    if name in shards:
        return Selected(name, shards[name])
    holding = [key for key, opened in shards.items() if any(_within(source, name) for source in opened.sources)]
    if not holding:
        known = set(shards) | {prefix for opened in shards.values() for prefix in _prefixes(opened.sources)}
        raise ConfigError(
            f"data.sources has {name!r}, and no document of that name is left to read. {nearest(name, known)} "
            "Correct the name, or leave it out of the mixture."
        )
    if len(holding) > 1:
        raise ConfigError(
            f"data.sources has {name!r}, and the shards {' and '.join(map(repr, holding))} both hold such documents. "
            "Combine the shards, or name the shards themselves."
        )
    return Selected(holding[0], shards[holding[0]].select(name))


def _within(source: str, name: str) -> bool:
    return f"{source}/".startswith(f"{name}/")


def _prefixes(sources: Iterable[str]) -> set[str]:
    """Every source and what it is a subset of: `pile/ArXiv` and `pile`."""
    return {"/".join(parts[:n]) for parts in (name.split("/") for name in sources) for n in range(1, len(parts) + 1)}


class Turns:
    """Gives each next row to the source furthest behind its share of the positions filled so far."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.tokens = dict.fromkeys(sorted(weights), 0)
        """Positions filled by each source."""
        total = math.fsum(weights.values())
        self._shares = [(weights[name] / total, name) for name in self.tokens]

    def next(self) -> str:
        """Whose turn it is; of equals, the one's with the largest share."""
        total = sum(self.tokens.values())
        return max((share * total - self.tokens[name], share, name) for share, name in self._shares)[2]
