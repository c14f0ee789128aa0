import json
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from headrace.data.documents import read_documents
from headrace.data.loader import LoaderConfig, SourceConfig
from headrace.data.shards import ShardConfig, write_shards
from headrace.data.tokenizer import TokenizerConfig, train_tokenizer
from headrace.models.gptj import GPTJConfig
from headrace.training.config import TrainConfig
from headrace.training.schedule import ScheduleConfig

TEXT = "the water runs down to wheel and mill when rain falls on hill so grain is ground by noon"


@dataclass(frozen=True)
class Tiny:
    """Artifacts small enough to train on within a second, and a configuration that does."""

    root: Path
    sources: dict[str, str]
    tokenizer: str
    config: TrainConfig

    def with_data(self, **changes: Any) -> TrainConfig:
        return replace(self.config, data=replace(self.config.data, **changes))

    def with_model(self, **changes: Any) -> TrainConfig:
        return replace(self.config, model=replace(self.config.model, **changes))

    def arguments(self, output: Path, workspace: Path, **changes: Any) -> dict[str, Any]:
        """Keyword arguments of `train` but for the tracker."""
        given = {"sources": self.sources, "tokenizer_uri": self.tokenizer, "config": self.config}
        return given | {"output_uri": str(output), "workspace": workspace} | changes


def write_corpus(path: Path, documents: list[dict[str, str]]) -> str:
    path.mkdir()
    (path / "part.jsonl").write_text("".join(json.dumps(document) + "\n" for document in documents))
    return str(path)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    root, draw, words = tmp_path_factory.mktemp("tiny"), random.Random(0), TEXT.split()
    prose = [{"text": " ".join(draw.choices(words, k=draw.randint(5, 60)))} for _ in range(200)]
    asked = [{"prompt": f"Say {w} {i}. Answer:", "target": f" {w}"} for i, w in enumerate(draw.choices(words, k=150))]
    corpora = {
        "prose": write_corpus(root / "prose", prose),
        "denoised": write_corpus(root / "denoised", prose[:50]),
        "asked": write_corpus(root / "asked", asked),
    }
    tokenizer = str(root / "tokenizer")
    train_tokenizer([corpora["prose"]], tokenizer, TokenizerConfig(vocabulary=290))
    for name, corpus in corpora.items():
        write_shards(read_documents(corpus), tokenizer, root / f"{name}-shards", ShardConfig())
    mixture = {
        "prose": SourceConfig(weight=0.5),
        "denoised": SourceConfig(weight=0.25, objective="ul2"),
        "asked": SourceConfig(weight=0.25, objective="instruction"),
    }
    config = TrainConfig(
        model=GPTJConfig(vocab_size=320, n_layer=2, d_model=32, n_head=2, d_ff=64, rotary_dim=8, context_tokens=64),
        data=LoaderConfig(context_tokens=48, rows=4, sources=mixture, window_rows=8),
        mask="prefix",
        steps=20,
        microbatch_rows=2,
        schedule=ScheduleConfig(peak=1e-2, warmup_steps=4, decay_steps=100),
        checkpoint_every_steps=6,
        log_every_steps=5,
    )
    return Tiny(root, {name: str(root / f"{name}-shards") for name in corpora}, tokenizer, config)
