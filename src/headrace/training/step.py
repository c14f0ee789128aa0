"""One optimizer step: a batch in, the next weights out.

Letters: B rows, T positions, D model width.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from headrace.data.batch import Batch, TensorBatch
from headrace.errors import TrainingError
from headrace.models.gptj import GPTJ
from headrace.models.masks import Mask, packed_causal, packed_prefix_lm
from headrace.training.averaging import Synchronizer, Synchronous
from headrace.training.config import TrainConfig
from headrace.training.guard import Guard
from headrace.training.link import Link
from headrace.training.loss import SummedLoss, summed_loss
from headrace.training.loss_scale import LossScale
from headrace.training.optimizer import set_learning_rate
from headrace.training.parallel import ALONE, Replicas
from headrace.training.pipeline import Objective, differentiate
from headrace.training.sharding import clip_grad_norm_


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """What one step measured."""

    step: int
    """Steps taken, this one included."""
    loss: float
    """Cross entropy, nats a label."""
    grad_norm: float
    """Norm of all gradients together, before clipping."""
    learning_rate: float
    labels: int
    """Positions scored."""
    tokens: int
    """Positions trained on, padding left out."""
    skipped: str = ""
    """Why the weights were not moved; empty where they were."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """What a batch has here, and whose labels its gradient is the mean over."""

    labels: int
    filled: int
    """Positions that are no padding."""
    everywhere: int
    """Labels that the gradient here is divided by: of all replicas that share a model, or of this one apart."""
    shared: bool
    """Whether the gradient is that of all replicas' rows together, or each one's own."""


class _Measured(NamedTuple):
    """The same on every replica."""

    loss: float
    grad_norm: float
    labels: int
    tokens: int


def take_step(
    model: GPTJ,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    config: TrainConfig,
    step: int,
    replicas: Replicas = ALONE,
    *,
    scale: LossScale | None = None,
    guard: Guard | None = None,
    averaging: Synchronizer | None = None,
) -> StepResult:
    """Move the weights once, along the mean gradient over all labels of the batch.

    Args:
        model: Its weights are changed in place.
        optimizer: Over the model's weights; the schedule sets its learning rate.
        batch: This replica's rows of the step; they pass through the model `config.microbatch_rows` at a time.
        config: Mask, precision, z-loss, clipping and schedule.
        step: Which step this is, from 1.
        replicas: Who takes the step together; every one returns the same result.
        scale: For fp16; where gradients overflow, it is lowered and the same step is tried again.
        guard: Knows the steps before, and which to skip.
        averaging: Moves the weights. Where it does not share the step's gradients, each replica's are the mean over
            its own labels. The result tells the loss over all labels and the mean of the gradients' norms, so that
            what is not finite on one replica is on none, and all skip the step and its exchange, or none does.

    Raises:
        TrainingError: No label, or a step that would be skipped and may not be; the weights are as they were.
    """
    averaging = averaging or Synchronous(optimizer)
    rows = _counted(batch, replicas, shared=averaging.shares_gradients(step))
    measured = _differentiate(model, batch, config, rows, replicas, scale)
    if not measured.labels:
        raise TrainingError(f"Step {step:,} has no label to learn from. Check the objectives of train.data.sources.")
    guard = guard or Guard(config.guard)
    skipped = guard.objection(step, loss=measured.loss, grad_norm=measured.grad_norm)
    learning_rate = config.schedule.learning_rate(step - 1)
    if not skipped:
        if scale is not None:
            scale.count_step()
        set_learning_rate(optimizer, learning_rate)
        averaging.update(step)
    optimizer.zero_grad(set_to_none=True)
    replicas.device.finish_step()
    return StepResult(step=step, learning_rate=learning_rate, skipped=skipped, **measured._asdict())


def _counted(batch: Batch, replicas: Replicas, *, shared: bool) -> _Rows:
    """Labels and positions; those who share a model count them before any loss is divided by them.

    Workers apart divide by their own: who else finishes the step is known only at its end.
    """
    here, filled = batch.scored(), batch.filled()
    if replicas.link is not None:
        return _Rows(here, filled, here, shared)
    everywhere, tokens = replicas.sum(torch.tensor([here, filled])).tolist()
    return _Rows(everywhere, tokens, everywhere, shared)


def _differentiate(
    model: GPTJ, batch: Batch, config: TrainConfig, rows: _Rows, replicas: Replicas, scale: LossScale | None
) -> _Measured:
    """Leave the clipped gradient in the weights; tell the loss and the norm before, the same on every replica."""
    found = _try(model, batch, config, rows, replicas, scale.factor if scale else 1.0)
    while scale is not None and math.isfinite(found.loss) and not math.isfinite(found.grad_norm) and scale.lower():
        for parameter in model.parameters():
            parameter.grad = None
        found = _try(model, batch, config, rows, replicas, scale.factor)
    return found


def _try(model: GPTJ, batch: Batch, config: TrainConfig, rows: _Rows, replicas: Replicas, factor: float) -> _Measured:
    """The same, with the loss scaled up by `factor`, whatever comes of it."""
    # Rows without a label leave zeros, which are divided by one.
    divisor = _on(max(1, rows.everywhere), replicas)
    total = _accumulate(model, batch, config, divisor, replicas, factor)
    if rows.shared and replicas.link is not None:
        replicas.link.weighted_mean_([p.grad for p in model.parameters() if p.grad is not None], rows.labels)
    norm = clip_grad_norm_(model.parameters(), config.optimizer.max_grad_norm, replicas)
    if replicas.link is not None:
        return _told(total, norm, rows, replicas.link)
    loss, norm_value = torch.stack((replicas.sum(total) / divisor, norm)).tolist()
    return _Measured(loss, norm_value, rows.labels, rows.filled)


def _told(total: Tensor, norm: Tensor, rows: _Rows, link: Link) -> _Measured:
    """What those who finish a step apart have measured together, the norm as a mean."""
    measured = (total.item(), norm.item(), rows.labels, rows.filled)
    loss, norms, labels, filled = link.count(measured)
    return _Measured(loss / max(1.0, labels), norms / len(link.counted), int(labels), int(filled))


def _accumulate(
    model: GPTJ, batch: Batch, config: TrainConfig, divisor: Tensor, replicas: Replicas, factor: float
) -> Tensor:
    """Leave the gradient of the batch's summed loss over `divisor` in the weights; its summed cross entropy."""
    if replicas.stages is None:
        total = _accumulate_here(model, batch, config, divisor, replicas, factor)
    else:
        placed, objective = replicas.put(batch.torch()), _objective(model, config, factor / divisor, replicas)
        total = differentiate(model, placed, config.microbatch_rows, objective, replicas.stages)
    if factor != 1.0:
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad /= factor
    return total


def _accumulate_here(
    model: GPTJ, batch: Batch, config: TrainConfig, divisor: Tensor, replicas: Replicas, factor: float
) -> Tensor:
    """The same for a model that this process has all layers of, and still scaled up by `factor`."""
    device = replicas.device
    total = torch.zeros((), device=device.torch)
    for start in range(0, len(batch.tokens_BT), config.microbatch_rows):
        microbatch = batch.rows(start, start + config.microbatch_rows).torch()
        with device.autocast(config.precision):
            loss = forward(model, replicas.put(microbatch), config)
        # Denoising and instructions score a different number of labels per microbatch. Dividing each
        # sum by the step's total weighs every label equally; a mean per microbatch would not.
        (loss.objective / divisor * factor).backward()
        total += loss.cross_entropy
    return total


def _objective(model: GPTJ, config: TrainConfig, weight: Tensor, replicas: Replicas) -> Objective:
    """What stages compute of each microbatch, which `forward` is the whole of."""
    return Objective(
        mask_of=lambda batch: mask_of(batch, config),
        loss_of=lambda hidden_BTD, labels_BT: summed_loss(model.head, hidden_BTD, labels_BT, config.z_loss),
        weight=weight,
        autocast=lambda: replicas.device.autocast(config.precision),
    )


def _on(count: int, replicas: Replicas) -> Tensor:
    """A count as a tensor, for XLA would compile a number of Python's into its graph, and again for the next one."""
    return torch.tensor(float(count)).to(replicas.device.torch)


def forward(model: GPTJ, batch: TensorBatch, config: TrainConfig) -> SummedLoss:
    """Loss of one microbatch, summed over its labels, under the mask the configuration promises."""
    hidden_BTD = model.hidden(batch.tokens_BT, mask_of(batch, config))
    return summed_loss(model.head, hidden_BTD, batch.labels_BT, config.z_loss)


def mask_of(batch: TensorBatch, config: TrainConfig) -> Mask:
    """Documents see themselves alone; their prompts are seen whole where the mask is `prefix`."""
    if config.mask == "prefix":
        return packed_prefix_lm(batch.segments_BT, batch.prefix_BT)
    return packed_causal(batch.segments_BT)
