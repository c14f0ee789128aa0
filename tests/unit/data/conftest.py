"""A small tokenizer, and shards made from whatever lines a test gives."""

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from headrace import storage
from headrace.data.documents import read_documents
from headrace.data.shards import OpenShards, ShardConfig, open_shards, write_shards
from headrace.data.tokenizer import TextTokenizer, TokenizerConfig, load_tokenizer, train_tokenizer

WORDS = ("water", "wheel", "mill", "gate", "flows", "over", "under", "the", "of", "turns", "grain", "into", "flour")


def sentence(seed: int, words: int) -> str:
    """Text of that many words, the same for the same seed."""
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> Path:
    """Write objects as JSON lines."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="session")
def tokenizer_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    corpus = write_lines(folder / "corpus.jsonl", ({"text": sentence(seed, 60)} for seed in range(40)))
    train_tokenizer([str(corpus)], folder / "made", TokenizerConfig(vocabulary=300))
    return str(folder / "made")


@pytest.fixture(scope="session")
def tokenizer(tokenizer_uri: str) -> TextTokenizer:
    return load_tokenizer(tokenizer_uri)


@pytest.fixture
def shards_of(tmp_path: Path, tokenizer_uri: str) -> Callable[..., OpenShards]:
    def make(
        lines: Iterable[dict[str, Any]], name: str = "shards", exclusions: str | None = None, **config: int
    ) -> OpenShards:
        corpus = write_lines(tmp_path / f"{name}.jsonl", lines)
        parents = {} if exclusions is None else {"exclusions": storage.read_manifest(exclusions).digest}
        config_of = ShardConfig(**config)
        write_shards(read_documents(str(corpus)), tokenizer_uri, tmp_path / name, config_of, parents=parents)
        return open_shards(tmp_path / name)

    return make
