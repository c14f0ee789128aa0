"""One optimizer step: a batch in, the next weights out.

Letters: B rows, T positions, D model width.
"""

import math
from dataclasses import dataclass

import torch

from headrace.data.batch import Batch, TensorBatch
from headrace.errors import TrainingError
from headrace.models.gptj import GPTJ
from headrace.models.masks import Mask, packed_causal, packed_prefix_lm
from headrace.training.config import TrainConfig
from headrace.training.guard import Guard
from headrace.training.loss import SummedLoss, summed_loss
from headrace.training.loss_scale import LossScale
from headrace.training.optimizer import set_learning_rate
from headrace.training.parallel import ALONE, Replicas
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

    Raises:
        TrainingError: No label, or a step that would be skipped and may not be; the weights are as they were.
    """
    labels, tokens = replicas.sum(torch.tensor([batch.scored(), batch.filled()])).tolist()
    if not labels:
        raise TrainingError(f"Step {step:,} has no label to learn from. Check the objectives of train.data.sources.")
    loss_value, norm_value = _differentiate(model, batch, config, labels, replicas, scale)
    while scale is not None and math.isfinite(loss_value) and not math.isfinite(norm_value) and scale.lower():
        optimizer.zero_grad(set_to_none=True)
        loss_value, norm_value = _differentiate(model, batch, config, labels, replicas, scale)
    skipped = (guard or Guard(config.guard)).objection(step, loss=loss_value, grad_norm=norm_value)
    if scale is not None and not skipped:
        scale.count_step()
    learning_rate = config.schedule.learning_rate(step - 1)
    if not skipped:
        set_learning_rate(optimizer, learning_rate)
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    replicas.device.finish_step()
    return StepResult(
        step=step,
        loss=loss_value,
        grad_norm=norm_value,
        learning_rate=learning_rate,
        labels=labels,
        tokens=tokens,
        skipped=skipped,
    )


def _differentiate(
    model: GPTJ, batch: Batch, config: TrainConfig, labels: int, replicas: Replicas, scale: LossScale | None
) -> tuple[float, float]:
    """Leave the clipped gradient of the mean over all labels in the weights; tell the loss and the norm before."""
    device, factor = replicas.device, 1.0 if scale is None else scale.factor
    total = torch.zeros((), device=device.torch)
    # As a tensor, for XLA would compile a number of Python's into its graph, and again for the next one.
    count = torch.tensor(float(labels)).to(device.torch)
    for start in range(0, len(batch.tokens_BT), config.microbatch_rows):
        microbatch = batch.rows(start, start + config.microbatch_rows).torch()
        with device.autocast(config.precision):
            loss = forward(model, replicas.put(microbatch), config)
        # Denoising and instructions score a different number of labels per microbatch. Dividing each
        # sum by the step's total weighs every label equally; a mean per microbatch would not.
        (loss.objective / count * factor).backward()
        total += loss.cross_entropy
    if factor != 1.0:
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad /= factor
    grad_norm = clip_grad_norm_(model.parameters(), config.optimizer.max_grad_norm)
    loss_value, norm_value = torch.stack((replicas.sum(total) / count, grad_norm)).tolist()
    return loss_value, norm_value


def forward(model: GPTJ, batch: TensorBatch, config: TrainConfig) -> SummedLoss:
    """Loss of one microbatch, summed over its labels, under the mask the configuration promises."""
    hidden_BTD = model.hidden(batch.tokens_BT, mask_of(batch, config))
    return summed_loss(model.head, hidden_BTD, batch.labels_BT, config.z_loss)


def mask_of(batch: TensorBatch, config: TrainConfig) -> Mask:
    """Documents see themselves alone; their prompts are seen whole where the mask is `prefix`."""
    if config.mask == "prefix":
        return packed_prefix_lm(batch.segments_BT, batch.prefix_BT)
    return packed_causal(batch.segments_BT)
