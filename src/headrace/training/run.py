"""A run in progress: weights, optimizer, data position and counts, and their way into a checkpoint and back."""

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headrace import checkpoints
from headrace.artifacts import MODEL_FILE, OPTIMIZER_FILE, TOKENIZER_FILE, Checkpoint
from headrace.checkpoints import Contents
from headrace.config import encode
from headrace.data.batch import Batch
from headrace.errors import ConfigError
from headrace.models.gptj import GPTJ
from headrace.models.pretrained import load_weights
from headrace.provenance import STAGES
from headrace.training import optimizer as optimizers
from headrace.training import worker_files
from headrace.training.config import TrainConfig
from headrace.training.feeder import Feeder
from headrace.training.guard import Guard
from headrace.training.inputs import Inputs
from headrace.training.link import Link
from headrace.training.loss_scale import LossScale
from headrace.training.membership import STORE
from headrace.training.parallel import ALONE, Replicas
from headrace.training.sharding import load, place, whole
from headrace.training.spmd import spread_moments
from headrace.training.step import StepResult
from headrace.training.synchronizers import synchronizer
from headrace.training.worker_files import WorkerState

Tensors = Mapping[str, Tensor]
State = tuple[Mapping[str, Any], WorkerState]
"""Counts and positions, as JSON values, and one worker's tensors."""

LOSS_STEPS = 50
"""Steps whose mean loss a checkpoint reports."""


class Run:
    """Everything that changes from step to step.

    A new run has drawn weights, or its parent's, and stands before the first batch. Of a run on several
    replicas, each holds its part of the weights, or weights of its own where `config.averaging` has them move apart,
    and reads its part of every batch.
    """

    def __init__(self, inputs: Inputs, config: TrainConfig, replicas: Replicas = ALONE) -> None:
        self.inputs, self.config = inputs, config
        if config.averaging.kind == "none" and replicas.link is not None:
            raise ConfigError(
                f"{STORE} is set, and averaging.kind=none has processes share one model, where nobody may be missing. "
                f"Set train.averaging.kind, or unset {STORE} and start them with torchrun."
            )
        self.replicas = replicas if config.averaging.kind == "none" else replicas.apart()
        self.step = self.tokens_seen = self.labels_seen = 0
        self._recent: deque[tuple[float, int]] = deque(maxlen=LOSS_STEPS)
        self.feeder = Feeder(inputs, config.data, config.model.vocab_size, self.replicas)
        self.guard = Guard(config.guard)
        drawn = self._drawn()
        self._weights_bytes = _bytes(drawn.state_dict().values())
        self.model = place(drawn, self.replicas)
        self.scale = LossScale() if config.precision == "fp16" else None
        self.optimizer = optimizers.build(self.model, config.optimizer, fused=replicas.device.fuses_optimizer)
        if replicas.spmd is not None:
            spread_moments(self.model, self.optimizer, replicas.spmd)
        self.averaging = synchronizer(self.model, self.optimizer, config.averaging, self.replicas.link or Link())

    def _drawn(self) -> GPTJ:
        """The model as it begins, equal in every process."""
        torch.manual_seed(self.config.seed)
        model = GPTJ(self.config.model)  # drawn on the CPU, where a seed means the same to every kind of device
        if self.inputs.parent is not None:
            load_weights(model, self.inputs.parent.path / MODEL_FILE)
        return model

    def batches(self) -> Iterator[Batch]:
        """The batches of the steps that remain."""
        return self.feeder.batches(self.config.steps - self.step)

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

    def finish_step(self, result: StepResult) -> None:
        """Count a step and, where it was the last, give all workers the weights to publish."""
        self.record(result)
        if self.step == self.config.steps:
            self.averaging.settle(self.step)

    def resumable_bytes(self) -> int:
        """Size of the tensors of a resumable checkpoint: each weight has two moments like it."""
        state = 3 * self._weights_bytes + _bytes(self.averaging.state().values())
        return state if self.replicas.link is None else state * (1 + self.replicas.link.world)

    def contents(self, *, resumable: bool) -> Contents:
        """The run as a checkpoint; only a resumable one carries the optimizer's moments.

        All replicas must ask for it together, for each holds a part, or weights of its own. The main one alone is
        given the tensors, whole and on the CPU, whatever the placement: a checkpoint says nothing of where it was made.
        """
        model, optimizer, workers = self._resumable() if resumable else (self._whole(), None, {})
        ledger = self.feeder.ledger
        return Contents(
            facts=self._facts(),
            parents=self.inputs.digests,
            model=model,
            optimizer=optimizer,
            workers=workers,
            state=self.state(),
            tokenizer=self.inputs.tokenizer.path / TOKENIZER_FILE,
            ledger=ledger,
            ledger_bytes=ledger.stat().st_size if ledger else 0,
        )

    def _whole(self) -> Tensors:
        return whole(self.model.state_dict(), self.replicas)

    def _resumable(self) -> tuple[Tensors, Tensors, Mapping[str, Tensors]]:
        """Weights, moments and what workers have of their own."""
        if self.replicas.link is None:
            moments = optimizers.moments(self.model, self.optimizer)
            return self._whole(), whole(moments, self.replicas), {}
        means, files = worker_files.collect(self.own(), self.replicas.link)
        return means.model, means.optimizer, files

    def own(self) -> WorkerState:
        """What this worker has of its own, where workers train apart."""
        moments = optimizers.moments(self.model, self.optimizer)
        return WorkerState(self.model.state_dict(), moments, self.averaging.state())

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

    def state(self) -> dict[str, Any]:
        """Counts and positions, as JSON values; the same on every replica."""
        return {
            "step": self.step,
            "tokens_seen": self.tokens_seen,
            "labels_seen": self.labels_seen,
            "recent": [list(pair) for pair in self._recent],
            "data": self.feeder.position,
            "guard": self.guard.state(),
            STAGES: [encode(stage) for stage in self.inputs.stages],
            **self.replicas.device.rng_state(),
            **({} if self.scale is None else {"loss_scale": dataclasses.asdict(self.scale)}),
        }

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint of this same run: to the last bit where the placement is the same."""
        self.go_on(checkpoints.read_state(path), self._saved(path))

    def meets(self, result: StepResult) -> bool:
        """Whether newcomers can be given what all workers have, after a step that is not the last."""
        return not result.skipped and self.step < self.config.steps and self.averaging.meets(result.step)

    def handed_over(self) -> State:
        """What a newcomer is to `join` with."""
        return self.state(), self.own()

    def join(self, handed: State) -> None:
        """Go on where another worker is, from what is the same on all."""
        self.go_on(*handed)
        self.averaging.enter()

    def go_on(self, state: Mapping[str, Any], saved: WorkerState) -> None:
        """Continue from what `state` and `own` returned."""
        self._restore_tensors(saved, moved=bool(state["tokens_seen"]))
        self.guard.restore(state["guard"])
        self.step, self.tokens_seen, self.labels_seen = (state[k] for k in ("step", "tokens_seen", "labels_seen"))
        self._recent.extend((loss, labels) for loss, labels in state["recent"])
        self.feeder.restore(state["data"])
        self.replicas.device.restore_rng(dict(state))
        if self.scale is not None:
            self.scale = LossScale(**state["loss_scale"])

    def _restore_tensors(self, saved: WorkerState, *, moved: bool) -> None:
        """Weights, moments and what is averaged; before the first step that moved the weights there are no moments."""
        load(self.model, saved.model, self.replicas)
        if moved:
            optimizers.load_moments(self.model, self.optimizer, saved.optimizer)
            if self.replicas.spmd is not None:
                spread_moments(self.model, self.optimizer, self.replicas.spmd)
        self.averaging.restore(saved.averaging)

    def _saved(self, path: Path) -> WorkerState:
        if self.replicas.link is not None:
            return worker_files.read(path, self.replicas.link.rank, self.replicas.link.world)
        model, moments = (checkpoints.read_tensors(path, name) for name in (MODEL_FILE, OPTIMIZER_FILE))
        return WorkerState(model, moments, {})


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
