"""Batches from a mixture of sources, in an order that can be left and taken up again exactly.

Each row is of one source: the one furthest behind its share of the positions filled so far, padding left
out. Within a source, documents come in a new order every epoch. Everything random is drawn from the seed, the
source's name, the epoch and the document (`headrace.data.draws`), so a few whole numbers a source are
the whole state.

Which row holds what follows from the lengths of documents alone. Every replica works that out for the whole
batch and reads the tokens of its own rows.

Shape letters: B rows of a batch, T positions of a row.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from headrace.data.batch import Batch, gather
from headrace.data.draws import Integers, name_word
from headrace.data.mixture import Turns, check_weights, select_sources
from headrace.data.objectives import Cut, Denoisers, ObjectiveName, objective_of
from headrace.data.reading import Place
from headrace.data.shard_files import OpenShards
from headrace.data.vocabulary import SpecialTokens
from headrace.data.windows import Source, Window
from headrace.errors import ConfigError, MismatchError

PROMPTS_AT_ONCE = 2**16
SHORTEST_CONTEXT_TOKENS = {"causal": 2, "prefix": 32, "ul2": 32, "instruction": 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceConfig:
    """What a source is worth and what is asked of it."""

    weight: float = 1.0
    """Its share of the positions filled: the weights of several sources sum to 1, or to 100 as percents."""
    objective: ObjectiveName = "causal"
    """`causal` predicts every token; `ul2` denoises; `prefix` continues text; `instruction` answers prompts."""
    denoisers: Denoisers = "ul2r"
    """For `ul2`: UL2R's mixture, which continues a causal decoder, or the seven denoisers of the first UL2."""
    cut: Cut = "prompt"
    """For `instruction`, of an example longer than a row: its `prompt` loses the beginning, or all of it the `end`, as
    GPT-JT's own training had it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderConfig:
    """Shape and mixture of the batches."""

    context_tokens: int
    """Positions of a row."""
    rows: int
    """Rows of one optimizer step, over all replicas."""
    sources: dict[str, SourceConfig]
    """By the name of their shards, or of a source within them: `pile`, `p3`, `pile/ArXiv`."""
    seed: int = 0
    window_rows: int = 256
    """Rows packed at a time: more waste fewer positions, fewer build faster."""

    def __post_init__(self) -> None:
        for name in ("rows", "window_rows"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} is no number of rows. Set 1 or more.")
        if not self.sources:
            raise ConfigError("data.sources is empty: there is nothing to train on. Name at least one source.")
        check_weights({name: source.weight for name, source in self.sources.items()})
        for source in self.sources.values():
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
    skipped: int = 0
    """Pieces too short to ask anything from."""
    cut: int = 0
    """Examples too long for a row, which lost tokens."""


class Provenance(NamedTuple):
    """Where the rows of a batch come from, a part of a document each; rows count from 0 over all replicas."""

    rows_N: Integers
    sources_N: Integers
    """Number of each one's source in `BatchStream.names`."""
    documents_N: Integers
    """Its document's number in the shards."""
    starts_N: Integers
    stops_N: Integers
    """Which of the document's tokens."""


class BatchStream:
    """An endless stream of batches.

    Args:
        shards: Documents by name.
        config: Shape and mixture.
        special: Mode tokens and sentinels of the model.
        eos_id: End-of-text of the tokenizer.
        replica: Which part of every batch to read, from 0.
        replicas: How many parts there are; their rows one after another are the batch.

    Raises:
        ConfigError: Sources and configuration do not name the same things, a source has no documents
            or no prompts to answer, or none that leaves its answer room, the vocabulary leaves too few rows for
            denoising, or rows cannot be shared out evenly.
        MismatchError: Shards were encoded with another vocabulary.
    """

    def __init__(
        self,
        shards: Mapping[str, OpenShards],
        config: LoaderConfig,
        special: SpecialTokens,
        eos_id: int,
        *,
        replica: int = 0,
        replicas: int = 1,
    ) -> None:
        self._mine = own_rows(config.rows, replica, replicas)
        self.config = config
        self.selected = select_sources(shards, sorted(config.sources))
        """What each source's name stands for."""
        self.names = list(self.selected)
        for name, source in config.sources.items():
            _check_source(name, self.selected[name].documents, source.objective, special, eos_id)
            if source.objective == "instruction" and source.cut == "end":
                _check_answers(name, self.selected[name].documents, config.context_tokens)
        self._sources = {name: self._source(name, special) for name in self.names}
        self._positions = {name: _Position() for name in self.names}
        self._turns = Turns({name: source.weight for name, source in config.sources.items()})
        self._windows: dict[str, _OpenWindow] = {}
        self._batch: list[_Row] = []

    def _source(self, name: str, special: SpecialTokens) -> Source:
        asked, words = self.config.sources[name], (self.config.seed, name_word(name))
        documents = self.selected[name].documents
        context = self.config.context_tokens
        objective = objective_of(asked.objective, documents, context, words, special, asked.denoisers, asked.cut)
        return Source(documents, objective, words, self.config.window_rows)

    def share(self, replica: int, replicas: int) -> None:
        """Read another part of every batch from the next one on.

        Raises:
            ConfigError: Rows cannot be shared out evenly.
        """
        self._mine = own_rows(self.config.rows, replica, replicas)

    def next(self) -> Batch:
        """The next `rows` rows, or this replica's part of them."""
        self._batch = [self._turn() for _ in range(self.config.rows)]
        whole = len(self._mine) == self.config.rows
        return gather(
            [
                (numbers_B, window.rows(rows_B, whole=whole))
                for window, numbers_B, rows_B in _by_window(self._batch[self._mine.start : self._mine.stop])
            ]
        )

    def provenance(self) -> Provenance:
        """Where all rows of the last batch come from, those of other replicas included."""
        found = []
        for window, numbers_B, rows_B in _by_window(self._batch):
            layout = window.window.chosen(rows_B)
            parts, name = layout.parts, window.name
            documents_N = self.selected[name].documents.numbers(parts.documents_N)
            sources_N = np.full(len(documents_N), self.names.index(name))
            found.append((numbers_B[layout.rows_N], sources_N, documents_N, parts.starts_N, parts.stops_N))
        columns = [np.concatenate(column) for column in zip(*found, strict=True)]
        order_N = np.argsort(columns[0], kind="stable")
        return Provenance(*(column[order_N] for column in columns))

    def state(self) -> dict[str, Any]:
        """Where the stream stands, as JSON values, the same on every replica; `restore` goes on from there."""
        return {
            name: {
                **dataclasses.asdict(position.place),
                "row": position.row,
                "tokens": self._turns.tokens[name],
                "skipped": position.skipped,
                "cut": position.cut,
                "documents": len(self.selected[name].documents),
            }
            for name, position in self._positions.items()
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state` was taken, any number of times and on any number of replicas.

        Raises:
            MismatchError: It is the state of other sources.
        """
        here = {name: len(found.documents) for name, found in self.selected.items()}
        there = {name: values.get("documents") for name, values in state.items()}
        if here != there:
            raise MismatchError(
                f"The saved data position is of sources {there}, and these are {here} (documents each). "
                "Resume with the shards the run began with, or start a new one."
            )
        self._windows.clear()
        for name, values in state.items():
            place = Place(values["epoch"], values["document"], values["offset"])
            self._positions[name] = _Position(place, values["row"], values["skipped"], values["cut"])
            self._turns.tokens[name] = values["tokens"]

    def _turn(self) -> "_Row":
        """Take one row of the source whose turn it is, laying out its next window where the last is used up."""
        name = self._turns.next()
        position = self._positions[name]
        if name not in self._windows:
            self._windows[name] = _OpenWindow(name, self._sources[name].window(position.place))
        taken = _Row(self._windows[name], position.row)
        window = taken.window.window
        self._turns.tokens[name] += window.filled_R[position.row]
        position.row += 1
        if position.row == len(window):
            position.place, position.row = window.after, 0
            position.skipped += window.skipped
            position.cut += window.cut
            del self._windows[name]
        return taken


class _OpenWindow:
    """A window that is being used up."""

    def __init__(self, name: str, window: Window) -> None:
        self.name, self.window = name, window
        self._read: Batch | None = None

    def rows(self, rows_B: Integers, *, whole: bool) -> Batch:
        """Some of its rows, which follow each other.

        With `whole`, all are read at once and kept, which costs least where all are wanted.
        """
        if not whole:
            return self.window.read(rows_B)
        if self._read is None:
            self._read = self.window.read(np.arange(len(self.window)))
        return self._read.rows(int(rows_B[0]), int(rows_B[-1]) + 1)


class _Row(NamedTuple):
    """One row of a batch: the window it is of and its number there."""

    window: _OpenWindow
    row: int


def _by_window(batch: list[_Row]) -> list[tuple[_OpenWindow, Integers, Integers]]:
    """Each window in use, its rows' numbers in the batch and in the window."""
    windows = {id(taken.window): taken.window for taken in batch}
    rows: dict[int, list[tuple[int, int]]] = {key: [] for key in windows}
    for number, taken in enumerate(batch):
        rows[id(taken.window)].append((number, taken.row))
    columns = {key: np.array(pairs).T for key, pairs in rows.items()}
    return [(windows[key], *columns[key]) for key in windows]


def own_rows(rows: int, replica: int, replicas: int) -> range:
    """The rows of a batch that one replica reads.

    Raises:
        ConfigError: Rows that cannot be shared out evenly, or no such replica.
    """
    if replicas < 1 or rows % replicas:
        raise ConfigError(f"{replicas} replicas cannot share {rows} rows evenly. Set data.rows to a multiple of them.")
    if not 0 <= replica < replicas:
        raise ConfigError(f"There is no replica {replica} of {replicas}. They count from 0.")
    part = rows // replicas
    return range(replica * part, (replica + 1) * part)


def _check_source(name: str, shards: OpenShards, objective: ObjectiveName, special: SpecialTokens, eos_id: int) -> None:
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


def _check_answers(name: str, shards: OpenShards, context_tokens: int) -> None:
    """Refuse a source of which no row could be made."""
    for first in range(0, len(shards), PROMPTS_AT_ONCE):
        numbers_N = np.arange(first, min(first + PROMPTS_AT_ONCE, len(shards)))
        if (shards.prompts(numbers_N) <= context_tokens).any():
            return
    raise ConfigError(
        f"Source {name!r} has no prompt of context_tokens={context_tokens:,} or fewer, and cut='end' leaves no answer "
        "to longer ones. Choose cut='prompt', or longer rows."
    )
