"""What a whole run of the model in `trainer.py` needs: a tokenizer, shards, and a job that names them."""

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.training.case import SHAPE, train_config

CONTEXT = 512
DOCUMENTS = 400


@contextlib.contextmanager
def prepared() -> Iterator[str]:
    """A folder with shards of Python's documentation (`pydoc_data`) and their tokenizer, for as long as it is used."""
    with tempfile.TemporaryDirectory(prefix="headrace-benchmark-") as folder:
        _prepare(Path(folder))
        yield folder


def _prepare(folder: Path) -> None:
    from pydoc_data.topics import topics

    from headrace.data.documents import read_documents
    from headrace.data.shards import ShardConfig, write_shards
    from headrace.data.tokenizer import TokenizerConfig, train_tokenizer

    corpus, tokenizer = folder / "text.jsonl", folder / "tokenizer"
    corpus.write_text("".join(json.dumps({"text": topics[name]}) + "\n" for name in sorted(topics)[:DOCUMENTS]))
    train_tokenizer([str(corpus)], tokenizer, TokenizerConfig(vocabulary=SHAPE["vocab_size"] - 256))
    write_shards(read_documents(str(corpus)), tokenizer, folder / "shards", ShardConfig())


def arguments(folder: Path, own: Path, steps: int, checkpoint_every_steps: int) -> dict[str, Any]:
    """Keyword arguments of `headrace.training.loop.train` but for the tracker.

    Args:
        folder: What `prepared` gives.
        own: Takes output and workspace.
        steps: To train.
        checkpoint_every_steps: Steps between two checkpoints.
    """
    config = dataclasses.replace(
        train_config(CONTEXT), steps=steps, checkpoint_every_steps=checkpoint_every_steps, log_every_steps=1
    )
    return {
        "sources": {"text": str(folder / "shards")},
        "tokenizer_uri": str(folder / "tokenizer"),
        "output_uri": str(own / "output"),
        "config": config,
        "workspace": own / "work",
    }


def write_job(file: Path, given: dict[str, Any]) -> Path:
    """The same as a file for `python -m headrace.training`."""
    from headrace.config import encode

    names = {"tokenizer_uri": "tokenizer", "output_uri": "output"}
    job = {names.get(name, name): value for name, value in given.items()}
    file.write_text(json.dumps(job | {"config": encode(job["config"]), "workspace": str(job["workspace"])}))
    return file
