"""A run in progress: weights, optimizer, data position and counts, and their way into a checkpoint and back."""

import dataclasses
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from headrace import checkpoints
from headrace.artifacts import MODEL_FILE, OPTIMIZER_FILE, TOKENIZER_FILE, Checkpoint
from headrace.checkpoints import Contents
from headrace.config import encode
from headrace.data.batch import Batch
from headrace.data.ledger import Header
from headrace.data.ledger_writer import LedgerWriter
from headrace.data.loader import BatchStream, Provenance
from headrace.data.tokenizer import load_tokenizer
from headrace.data.vocabulary import SpecialTokens
from headrace.models.gptj import GPTJ
from headrace.models.pretrained import load_weights
from headrace.training import optimizer as optimizers
from headrace.training.config import TrainConfig
from headrace.training.guard import Guard
from headrace.training.inputs import Inputs
from headrace.training.loss_scale import LossScale
from headrace.training.parallel import ALONE, Replicas
from headrace.training.sharding import load, place, whole
from headrace.training.spmd import spread_moments
from headrace.training.step import StepResult

BATCHES_AHEAD = 2
"""Batches made while a step computes."""

LOSS_STEPS = 50
"""Steps whose mean loss a checkpoint reports."""


class Run:
    """Everything that changes from step to step.

    A new run has drawn weights, or its parent's, and stands before the first batch. Of a run on several
    replicas, each holds its part of the weights and reads its part of every batch.
    """

    def __init__(self, inputs: Inputs, config: TrainConfig, replicas: Replicas = ALONE) -> None:
        self.inputs, self.config, self.replicas = inputs, config, replicas
        self.step = self.tokens_seen = self.labels_seen = 0
        self._recent: deque[tuple[float, int]] = deque(maxlen=LOSS_STEPS)
        special = SpecialTokens(inputs.tokenizer.facts.vocabulary, config.model.vocab_size)
        eos_id = load_tokenizer(inputs.tokenizer.path).eos_id
        mine = {"replica": replicas.rank, "replicas": replicas.world}
        self._stream = BatchStream(inputs.shards, config.data, special, eos_id, **mine)
        self._position: dict[str, Any] = self._stream.state()
        self._provenance: Provenance
        self._ledger: Path | None = None
        self._waited_seconds = 0.0
        self.guard = Guard(config.guard)
        torch.manual_seed(config.seed)
        model = GPTJ(config.model)  # drawn on the CPU, where a seed means the same to every kind of device
        if inputs.parent is not None:
            load_weights(model, inputs.parent.path / MODEL_FILE)
        self.model = place(model, replicas)
        self.scale = LossScale() if config.precision == "fp16" else None
        self.optimizer = optimizers.build(self.model, config.optimizer, fused=replicas.device.fuses_optimizer)
        if replicas.spmd is not None:
            spread_moments(self.model, self.optimizer, replicas.spmd)

    def batches(self) -> Iterator[Batch]:
        """The batches of the steps that remain, made in the background while the step before computes."""
        remaining = self.config.steps - self.step
        with ThreadPoolExecutor(1, "batches") as background:
            made = deque(background.submit(self._draw) for _ in range(min(BATCHES_AHEAD, remaining)))
            for left in range(remaining, 0, -1):
                began = time.perf_counter()
                batch, self._provenance, position = made.popleft().result()
                self._waited_seconds += time.perf_counter() - began
                if left > BATCHES_AHEAD:
                    made.append(background.submit(self._draw))
                self._position = position
                yield batch

    def _draw(self) -> tuple[Batch, Provenance, dict[str, Any]]:
        """The next batch, where it comes from, and where the stream stands once it is used."""
        return self._stream.next(), self._stream.provenance(), self._stream.state()

    def keep_ledger(self, path: Path, resumed: Path | None = None) -> LedgerWriter:
        """Begin the record of what this run is fed, or go on with that of the checkpoint it goes on from."""
        shards = self.inputs.shards
        sources = {name: found.shards for name, found in self._stream.selected.items()}
        header = Header(shards={name: opened.digest for name, opened in sorted(shards.items())}, sources=sources)
        self._ledger = path
        return LedgerWriter(
            path, header, lambda name, number: shards[name].origin(number), resumed=resumed, step=self.step
        )

    def fed(self) -> Provenance:
        """Where the batch of the present step comes from."""
        return self._provenance

    def fed_documents(self) -> list[dict[str, Any]]:
        """The same in words: source, `FILE:LINE` and tokens of every part of a document."""
        fed, sources = self._provenance, list(self._stream.selected.items())
        parts = zip(*(column.tolist() for column in fed), strict=True)
        return [
            {
                "row": row,
                "source": sources[source][0],
                "document": self.inputs.shards[sources[source][1].shards].origin(number),
                "tokens": [start, stop],
            }
            for row, source, number, start, stop in parts
        ]

    def waited_seconds(self) -> float:
        """How long steps have waited for their batches since this was last asked."""
        waited, self._waited_seconds = self._waited_seconds, 0.0
        return waited

    def cut(self) -> dict[str, int]:
        """Of each source of instructions, how many examples so far were longer than a row and lost tokens."""
        sources = self.config.data.sources
        return {
            name: values["cut"] for name, values in self._position.items() if sources[name].objective == "instruction"
        }

    def record(self, result: StepResult) -> None:
        """Count a finished step; one that was skipped has trained on nothing."""
        self.step = result.step
        skipped = bool(result.skipped)
        self.guard.record(result.step, loss=result.loss, grad_norm=result.grad_norm, skipped=skipped)
        if skipped:
            return
        self.tokens_seen += result.tokens
        self.labels_seen += result.labels
        self._recent.append((result.loss * result.labels, result.labels))

    def resumable_bytes(self) -> int:
        """Size of the tensors of a resumable checkpoint: each weight has two moments like it."""
        weights: int = sum(weight.numel() * weight.element_size() for weight in self.model.state_dict().values())
        return 3 * weights

    def contents(self, *, resumable: bool) -> Contents:
        """The run as a checkpoint; only a resumable one carries the optimizer's moments.

        All replicas must ask for it together, for each holds a part. The main one alone is given the tensors,
        whole and on the CPU, whatever the placement: a checkpoint says nothing of where it was made.
        """
        moments = optimizers.moments(self.model, self.optimizer) if resumable else None
        return Contents(
            facts=self._facts(),
            parents=self.inputs.digests,
            model=whole(self.model.state_dict(), self.replicas),
            optimizer=None if moments is None else whole(moments, self.replicas),
            state=self._state(),
            tokenizer=self.inputs.tokenizer.path / TOKENIZER_FILE,
            ledger=self._ledger,
            ledger_bytes=self._ledger.stat().st_size if self._ledger else 0,
        )

    def _facts(self) -> Checkpoint:
        losses, labels = sum(loss for loss, _ in self._recent), sum(labels for _, labels in self._recent)
        return Checkpoint(
            step=self.step,
            tokens_seen=self.tokens_seen,
            labels_seen=self.labels_seen,
            model=encode(self.config.model),
            tokenizer=self.inputs.tokenizer.facts.fingerprint,
            mask=self.config.mask,
            config=encode(self.config),
            loss=losses / labels if labels else None,
        )

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "tokens_seen": self.tokens_seen,
            "labels_seen": self.labels_seen,
            "recent": [list(pair) for pair in self._recent],
            "data": self._position,
            "guard": self.guard.state(),
            **self.replicas.device.rng_state(),
            **({} if self.scale is None else {"loss_scale": dataclasses.asdict(self.scale)}),
        }

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint of this same run: to the last bit where the placement is the same."""
        load(self.model, checkpoints.read_tensors(path, MODEL_FILE), self.replicas)
        state = checkpoints.read_state(path)
        if state["tokens_seen"]:  # before the first step that was not skipped, there are no moments
            optimizers.load_moments(self.model, self.optimizer, checkpoints.read_tensors(path, OPTIMIZER_FILE))
            if self.replicas.spmd is not None:
                spread_moments(self.model, self.optimizer, self.replicas.spmd)
        self.guard.restore(state["guard"])
        self.step, self.tokens_seen, self.labels_seen = (state[k] for k in ("step", "tokens_seen", "labels_seen"))
        self._recent.extend((loss, labels) for loss, labels in state["recent"])
        self._position = state["data"]
        self._stream.restore(state["data"])
        self.replicas.device.restore_rng(state)
        if self.scale is not None:
            self.scale = LossScale(**state["loss_scale"])
