"""Text to shards: `.jsonl.zst` to a sealed artifact, beside bare gigatoken and Hugging Face `datasets`."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.alternate import Measured, Side, alternate, others_note
from benchmarks.data.corpus import describe_base, write_corpus
from benchmarks.data.peers import BATCH_CHARACTERS
from benchmarks.options import Options, show_size
from benchmarks.tables import Table

PEERS = "benchmarks.data.peers"


def run(options: Options) -> Iterator[Table]:
    """Bytes of text a second, beside bare gigatoken and then beside Hugging Face `datasets`.

    Reading, decompressing, encoding, writing and sealing are timed; loading the tokenizer is told apart.
    """
    with tempfile.TemporaryDirectory(prefix="headrace-benchmark-") as name:
        folder = Path(name)
        tokenizer = make_tokenizer(folder)
        fast = beside_gigatoken(folder, tokenizer, options)
        yield fast
        yield beside_hugging_face(folder, tokenizer, options, fast.numbers["rate"])


def make_tokenizer(folder: Path) -> str:
    """GPT-2's tokenizer, sealed."""
    from headrace.data.tokenizer import TokenizerConfig, train_tokenizer

    train_tokenizer([], folder / "gpt2", TokenizerConfig(kind="gpt2"))
    return str(folder / "gpt2")


def beside_gigatoken(folder: Path, tokenizer: str, options: Options) -> Table:
    """The whole way beside encoding alone, on the same text."""
    corpus = folder / "corpus.jsonl.zst"
    size = write_corpus(corpus, options.text_bytes)
    shared = {"corpus": str(corpus), "tokenizer": tokenizer}
    sides = {
        "headrace: read, encode, write, seal": Side(f"{PEERS}:ours", {**shared, "output": str(folder / "made")}),
        "bare gigatoken, in memory, in batches": Side(
            f"{PEERS}:bare", {**shared, "batch_characters": BATCH_CHARACTERS}
        ),
        "bare gigatoken, in memory, in one call": Side(f"{PEERS}:bare", {**shared, "batch_characters": 0}),
    }
    measured = alternate(sides, options.rounds)
    ours, *bare = measured.values()
    our, batches, whole = ours.median(), *(one.median() for one in bare)
    notes = [
        f"headrace runs at {whole / our:.0%} of bare gigatoken's one call (asked for: 75 %) and at {batches / our:.0%} "
        "of its batches, each of which is thrown away before the next.",
        _counted(ours, bare[-1], shared, folder, options),
        f"Loading the tokenizer, {ours.median('setup_seconds'):.2f} s, is left out on all sides.",
        *_notes(measured),
    ]
    found = {"share": whole / our, "share_of_batches": batches / our, "rate": size / our}
    return _table("Text to shards, beside bare gigatoken", measured, size, notes, **found)


def _counted(ours: Measured, bare: Measured, shared: dict[str, str], folder: Path, options: Options) -> str:
    """Where the processors' time goes: the bare side writes nothing, and faults in memory for all ids at once."""
    sides = {
        "reading alone": Side(f"{PEERS}:reading", {"corpus": shared["corpus"]}),
        "writing alone": Side(f"{PEERS}:writing", {**shared, "output": str(folder / "written")}),
    }
    reading, writing = (one.median("cpu_seconds") for one in alternate(sides, options.rounds).values())
    whole = ours.median("cpu_seconds") - ours.median("setup_seconds")
    return (
        f"headrace takes {whole:.2f} core-seconds and bare gigatoken {bare.median('cpu_seconds'):.2f}; "
        f"reading alone takes {reading:.2f} and writing {writing:.2f}."
    )


def beside_hugging_face(folder: Path, tokenizer: str, options: Options, rate: float) -> Table:
    """The whole way on both sides, on less text; `rate` is ours on much, in bytes a second."""
    corpus = folder / "less.jsonl.zst"
    size, cores = write_corpus(corpus, options.peer_text_bytes), len(os.sched_getaffinity(0))
    shared = {"corpus": str(corpus), "tokenizer": tokenizer}
    cache = {"folder": str(folder / "datasets"), "processes": cores}
    samples: dict[str, Measured] = {}
    for number in range(options.rounds):  # a cache of its own each round, or the second would find the first's work
        sides = {
            "headrace": Side(f"{PEERS}:ours", {**shared, "output": str(folder / "made")}),
            f"datasets.map + grouping, {cores} processes": Side(
                f"{PEERS}:hugging_face", {**shared, **cache, "folder": f"{cache['folder']}-{number}"}
            ),
        }
        for name, one in alternate(sides, 1).items():
            samples.setdefault(name, Measured([])).runs.extend(one.runs)
    our, other = samples.values()
    ratio = other.median() / our.median()
    whole = other.median() / (our.median() + our.median("setup_seconds"))
    steady = rate * other.median() / size
    notes = [
        f"On equal text headrace is {ratio:.0f} times as fast, {whole:.0f} times with its tokenizer's loading: "
        "each run begins without a word remembered.",
        f"At its rate on {show_size(options.text_bytes)}, {rate / 1e6:,.0f} MB/s, it is {steady:.0f} times as fast "
        "(asked for: 40).",
        *_notes(samples),
    ]
    return _table(
        "Text to shards, beside Hugging Face", samples, size, notes, ratio=ratio, ratio_with_setup=whole, steady=steady
    )


def _notes(measured: dict[str, Measured]) -> list[str]:
    runs = [run for one in measured.values() for run in one.runs]
    equal = len({(run["ids"], run["tokens"]) for run in runs}) == 1
    return [
        f"Ids {'are equal' if equal else 'DIFFER'}: {runs[0]['tokens']:,} tokens, GPT-2's tokenizer.",
        f"Corpus: {describe_base()}.",
        others_note(measured.values()),
    ]


def _table(title: str, measured: dict[str, Measured], size: int, notes: list[str], **found: float) -> Table:
    rows = [
        {
            "side": name,
            "MB/s": f"{size / one.median() / 1e6:,.1f}",
            "seconds": f"{one.median():.2f} ± {one.spread() / 2:.0%}",
            "peak MiB": f"{max(max(run['peak_bytes'], run['child_peak_bytes']) for run in one.runs) / 2**20:,.0f}",
        }
        for name, one in measured.items()
    ]
    numbers = {"text_bytes": size, **found, "runs": {name: one.runs for name, one in measured.items()}}
    return Table(title=f"{title} ({show_size(size)})", rows=rows, notes=notes, numbers=numbers)
