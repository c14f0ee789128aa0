"""Batches from a mixture of sources, in an order that can be left and taken up again exactly.

Each row is of one source: the one furthest behind its share of the positions filled so far, padding left
out. Within a source, documents come in a new order every epoch. Everything random is drawn from the seed, the
source's name, the epoch and the document (`headrace.data.draws`), so a few whole numbers a source are
the whole state.

Shape letters: B rows of a batch, T positions of a row.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.config import nearest
from headrace.data.batch import Batch, concatenate
from headrace.data.draws import name_word
from headrace.data.shard_files import OpenShards
from headrace.data.vocabulary import SpecialTokens
from headrace.data.windows import Objective, Place, Source, Window
from headrace.errors import ConfigError, MismatchError

SHORTEST_CONTEXT_TOKENS = {"causal": 2, "prefix": 32, "ul2": 32, "instruction": 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceConfig:
    """What a source is worth and what is asked of it."""

    weight: float = 1.0
    """Its share of the positions, relative to the other sources' weights."""
    objective: Objective = "causal"
    """`causal` predicts every token; `ul2` denoises; `prefix` continues text; `instruction` answers prompts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderConfig:
    """Shape and mixture of the batches."""

    context_tokens: int
    """Positions of a row."""
    rows: int
    """Rows of one optimizer step, over all replicas."""
    sources: dict[str, SourceConfig]
    seed: int = 0
    window_rows: int = 64
    """Rows packed at a time: more waste fewer positions, fewer build faster."""

    def __post_init__(self) -> None:
        for name in ("rows", "window_rows"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} is no number of rows. Set 1 or more.")
        if not self.sources:
            raise ConfigError("data.sources is empty: there is nothing to train on. Name at least one source.")
        for name, source in self.sources.items():
            if not (math.isfinite(source.weight) and source.weight > 0):
                raise ConfigError(f"Source {name!r} has weight {source.weight}. Set it above 0 or remove the source.")
            if self.context_tokens < (least := SHORTEST_CONTEXT_TOKENS[source.objective]):
                raise ConfigError(
                    f"context_tokens={self.context_tokens} is too short for objective {source.objective!r}. "
                    f"Set {least} or more."
                )


@dataclass(slots=True)
class _Position:
    """How far one source has been read."""

    place: Place = dataclasses.field(default_factory=Place)
    """Where the current window begins."""
    row: int = 0
    """Rows of it already given out."""
    tokens: int = 0
    """Positions filled so far."""
    skipped: int = 0
    """Pieces too short to ask anything from."""


class BatchStream:
    """An endless stream of batches.

    Args:
        shards: Documents by source name.
        config: Shape and mixture.
        special: Mode tokens and sentinels of the model.
        eos_id: End-of-text of the tokenizer.

    Raises:
        ConfigError: Sources and configuration do not name the same things, a source has no documents
            or no prompts to answer, or the vocabulary leaves too few rows for denoising.
        MismatchError: Shards were encoded with another vocabulary.
    """

    def __init__(
        self, shards: Mapping[str, OpenShards], config: LoaderConfig, special: SpecialTokens, eos_id: int
    ) -> None:
        _check_names(shards, config)
        for name, source in config.sources.items():
            _check_source(name, shards[name], source.objective, special, eos_id)
        self.config = config
        self._names = sorted(config.sources)
        total = math.fsum(config.sources[name].weight for name in self._names)
        self._shares = [config.sources[name].weight / total for name in self._names]
        self._sources = {
            name: Source(
                shards[name],
                config.sources[name].objective,
                (config.seed, name_word(name)),
                special,
                context_tokens=config.context_tokens,
                rows=config.window_rows,
            )
            for name in self._names
        }
        self._positions = {name: _Position() for name in self._names}
        self._windows: dict[str, Window] = {}

    def next(self) -> Batch:
        """The next `rows` rows."""
        return concatenate([self._row(self._neediest()) for _ in range(self.config.rows)])

    def state(self) -> dict[str, Any]:
        """Where the stream stands, as JSON values; `restore` goes on from there."""
        return {
            name: {
                **dataclasses.asdict(position.place),
                "row": position.row,
                "tokens": position.tokens,
                "skipped": position.skipped,
                "documents": len(self._sources[name].shards),
            }
            for name, position in self._positions.items()
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state` was taken, any number of times.

        Raises:
            MismatchError: It is the state of other sources.
        """
        here = {name: len(source.shards) for name, source in self._sources.items()}
        there = {name: values.get("documents") for name, values in state.items()}
        if here != there:
            raise MismatchError(
                f"The saved data position is of sources {there}, and these are {here} (documents each). "
                "Resume with the shards the run began with, or start a new one."
            )
        self._windows.clear()
        for name, values in state.items():
            place = Place(values["epoch"], values["document"], values["offset"])
            self._positions[name] = _Position(place, values["row"], values["tokens"], values["skipped"])

    def _neediest(self) -> str:
        """The source furthest behind its share; of equals the one with the largest share."""
        tokens = [self._positions[name].tokens for name in self._names]
        deficits = [
            (share * sum(tokens) - had, share, name)
            for share, had, name in zip(self._shares, tokens, self._names, strict=True)
        ]
        return max(deficits)[2]

    def _row(self, name: str) -> Batch:
        """Take one row of a source, building its next window where the last is used up."""
        position = self._positions[name]
        if name not in self._windows:
            self._windows[name] = self._sources[name].window(position.place)
        window = self._windows[name]
        row = window.rows.rows(position.row, position.row + 1)
        position.row += 1
        position.tokens += row.filled()
        if position.row == len(window.rows.tokens_BT):
            position.place, position.row = window.after, 0
            position.skipped += window.skipped
            del self._windows[name]
        return row


def _check_names(shards: Mapping[str, OpenShards], config: LoaderConfig) -> None:
    for name in config.sources:
        if name not in shards:
            raise ConfigError(f"data.sources has {name!r}, and no shards of that name. {nearest(name, shards)}")
    for name in shards:
        if name not in config.sources:
            raise ConfigError(f"data.sources says nothing of the shards {name!r}. {nearest(name, config.sources)}")


def _check_source(name: str, shards: OpenShards, objective: Objective, special: SpecialTokens, eos_id: int) -> None:
    """Refuse what would fail, or teach nonsense, many steps later."""
    if shards.tokens <= len(shards):
        raise ConfigError(f"Source {name!r} has no documents with text. Remove it or encode a corpus that has some.")
    if shards.vocabulary != special.tokenizer_vocabulary or shards.eos_id != eos_id:
        raise MismatchError(
            f"Source {name!r} was encoded with {shards.vocabulary:,} ids (end-of-text {shards.eos_id}), and the "
            f"model's tokenizer has {special.tokenizer_vocabulary:,} (end-of-text {eos_id}). Encode it again."
        )
    if objective == "ul2":
        special.require_sentinels()
    if objective == "instruction" and (plain := len(shards) - shards.prompted()):
        raise ConfigError(
            f"Source {name!r} has {plain:,} documents without a prompt, and objective 'instruction' answers prompts. "
            "Choose 'causal', 'prefix' or 'ul2' for it."
        )
