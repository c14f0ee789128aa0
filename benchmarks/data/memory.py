"""Memory and time of text to shards as the input grows."""

import math
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.alternate import Measured, Side, alternate, others_note
from benchmarks.data.corpus import describe_base, write_corpus
from benchmarks.data.text_to_shards import PEERS, make_tokenizer
from benchmarks.options import Options, show_size
from benchmarks.tables import Table

DISK_BYTES = 1.0
"""Disk for each byte of text: the compressed corpus, and two bytes a token of shards; less is used."""


def run(options: Options) -> Iterator[Table]:
    """Encode ever longer beginnings of one corpus.

    Raises:
        RuntimeError: The disk has no room.
    """
    sizes = sorted(options.sizes)
    with tempfile.TemporaryDirectory(prefix="headrace-benchmark-") as name:
        folder = Path(name)
        free = shutil.disk_usage(folder).free
        if free < DISK_BYTES * sizes[-1]:
            raise RuntimeError(f"{folder} has {show_size(free)} free, less than the text. Give smaller --sizes.")
        write_corpus(folder / "corpus.jsonl.zst", sizes[-1])
        shared = {"corpus": str(folder / "corpus.jsonl.zst"), "tokenizer": make_tokenizer(folder)}
        sides = {
            show_size(size): Side(f"{PEERS}:ours", {**shared, "output": str(folder / "made"), "text_bytes": size})
            for size in sizes
        }
        yield _table(sizes, alternate(sides, options.rounds))


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Slope of log seconds over log size, by least squares."""
    return statistics.linear_regression([math.log(size) for size in sizes], [math.log(one) for one in seconds]).slope


def _table(sizes: list[int], measured: dict[str, Measured]) -> Table:
    peaks = [max(run["peak_bytes"] for run in one.runs) for one in measured.values()]
    slope = exponent(sizes, [one.median() for one in measured.values()])
    rows = [
        {
            "text": name,
            "peak MiB": f"{peak / 2**20:,.0f}",
            "seconds": f"{one.median():.2f} ± {one.spread() / 2:.0%}",
            "MB/s": f"{size / one.median() / 1e6:,.1f}",
        }
        for (name, one), peak, size in zip(measured.items(), peaks, sizes, strict=True)
    ]
    notes = [
        f"Peak memory grows by {peaks[-1] / peaks[0] - 1:+.1%} from the smallest text to the largest (asked: 10 %).",
        f"Time grows as size to the power {slope:.3f} (asked for: 0.95 to 1.05), the tokenizer's loading left out; "
        "the longer a corpus, the fewer of its words are new.",
        f"Corpus: {describe_base()}.",
        others_note(measured.values()),
    ]
    runs = {name: one.runs for name, one in measured.items()}
    return Table(
        title="Text to shards: memory and time",
        rows=rows,
        notes=notes,
        numbers={"sizes": sizes, "peaks": peaks, "exponent": slope, "runs": runs},
    )
