"""What a run is fed: batches made in the background, where each comes from, and how far the data has been read."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np

from headrace.data.batch import Batch
from headrace.data.ledger import Header
from headrace.data.ledger_writer import LedgerWriter
from headrace.data.loader import BatchStream, LoaderConfig, Provenance
from headrace.data.tokenizer import load_tokenizer
from headrace.data.vocabulary import SpecialTokens
from headrace.training.inputs import Inputs
from headrace.training.parallel import Replicas

BATCHES_AHEAD = 2
"""Batches made while a step computes."""

Drawn = tuple[Batch, Provenance, dict[str, Any]]
"""A batch, where it comes from, and where the stream stands once it is used."""


class Feeder:
    """This replica's part of every batch.

    Replicas that share one model need parts that are all read. Workers that train apart come and go: the rows of a
    step are cut into at least as many even parts as there are workers, and parts that nobody reads are passed over.
    So 64 rows are 16 each for four workers, and for three. Who shares them is asked before every step, and who has
    finished it afterwards: the part of one that was lost meanwhile counts as read by nobody.

    Args:
        inputs: Shards and their tokenizer.
        config: Shape and mixture of the batches.
        vocabulary: Rows of the model's embedding.
        replicas: Who reads beside this one.

    Raises:
        ConfigError: As `BatchStream` does, for rows that cannot be shared out.
    """

    def __init__(self, inputs: Inputs, config: LoaderConfig, vocabulary: int, replicas: Replicas) -> None:
        self._inputs, self._config = inputs, config
        special = SpecialTokens(inputs.tokenizer.facts.vocabulary, vocabulary)
        eos_id = load_tokenizer(inputs.tokenizer.path).eos_id
        self._stream = BatchStream(inputs.shards, config, special, eos_id)
        self._link = replicas.link
        if self._link is None:
            self._stream.share(replicas.rank, replicas.world)
        self._readers: tuple[int, ...] = ()
        """Who reads the parts of a batch, one each in this order."""
        self._provenance: Provenance
        self._waited_seconds = 0.0
        self.position: dict[str, Any] = self._stream.state()
        """Where the stream stands after the present step's batch, as JSON values."""
        self.ledger: Path | None = None
        """The record of what every step was fed, where one is kept."""

    def restore(self, position: dict[str, Any]) -> None:
        """Go on from where the stream stood."""
        self.position = position
        self._stream.restore(position)

    def batches(self, steps: int) -> Iterator[Batch]:
        """The next `steps` batches, each made while the step before computes."""
        made: deque[Future[Drawn]] = deque()
        with ThreadPoolExecutor(1, "batches") as background:
            for left in range(steps, 0, -1):
                began = time.perf_counter()
                self._share_out(made)
                _top_up(made, min(BATCHES_AHEAD, left), lambda: background.submit(self._draw))
                batch, self._provenance, position = made.popleft().result()
                self._waited_seconds += time.perf_counter() - began
                _top_up(made, min(BATCHES_AHEAD, left - 1), lambda: background.submit(self._draw))
                self.position = position
                yield batch

    def _share_out(self, made: "deque[Future[Drawn]]") -> None:
        """Read the part that is this worker's now; what was made of another one is dropped."""
        if self._link is None or self._readers == self._link.sharers:
            return
        for future in made:
            future.cancel()
        wait(future for future in made if not future.cancelled())
        made.clear()
        self._readers = self._link.sharers
        mine = self._readers.index(self._link.circle.members[self._link.rank])
        self._stream.share(mine, even_parts(self._config.rows, len(self._readers)))
        self._stream.restore(self.position)

    def _draw(self) -> Drawn:
        return self._stream.next(), self._stream.provenance(), self._stream.state()

    def keep_ledger(self, path: Path, step: int, resumed: Path | None = None) -> LedgerWriter:
        """Begin the record of what the run is fed, or go on after `step` with a checkpoint's or another worker's."""
        shards = self._inputs.shards
        sources = {name: found.shards for name, found in self._stream.selected.items()}
        header = Header(shards={name: opened.digest for name, opened in sorted(shards.items())}, sources=sources)
        self.ledger = path
        return LedgerWriter(path, header, lambda name, number: shards[name].origin(number), resumed=resumed, step=step)

    def fed(self) -> Provenance:
        """Where the batch of the present step comes from, the rows that all replicas together read."""
        if self._link is None:
            return self._provenance
        part = self._config.rows // even_parts(self._config.rows, len(self._readers))
        there = [rank for rank, reader in enumerate(self._readers) if reader in self._link.counted]
        read_N = np.isin(self._provenance.rows_N // part, there)
        return Provenance(*(column_N[read_N] for column_N in self._provenance))

    def fed_documents(self) -> list[dict[str, Any]]:
        """The same in words: source, `FILE:LINE` and tokens of every part of a document."""
        fed, sources = self.fed(), list(self._stream.selected.items())
        parts = zip(*(column.tolist() for column in fed), strict=True)
        return [
            {
                "row": row,
                "source": sources[source][0],
                "document": self._inputs.shards[sources[source][1].shards].origin(number),
                "tokens": [start, stop],
            }
            for row, source, number, start, stop in parts
        ]

    def measured(self) -> dict[str, float]:
        """Instructions of each source that lost tokens or were left out so far, and seconds waited since last asked."""
        waited, self._waited_seconds = self._waited_seconds, 0.0
        too_long = {
            f"{what}/{name}": float(values[what])
            for name, values in self.position.items()
            if self._config.sources[name].objective == "instruction"
            for what in ("cut", "skipped")
        }
        return too_long | {"data/wait_seconds": waited}


def _top_up(made: "deque[Future[Drawn]]", size: int, make: Callable[[], "Future[Drawn]"]) -> None:
    while len(made) < size:
        made.append(make())


def even_parts(rows: int, workers: int) -> int:
    """The fewest equal parts of `rows` that give each worker one; as many as workers where there are too few rows."""
    return next((parts for parts in range(workers, rows + 1) if rows % parts == 0), workers)
