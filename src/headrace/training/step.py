"""One optimizer step: a batch in, the next weights out.

Letters: B rows, T positions, D model width.
"""

from dataclasses import dataclass

import torch
from torch import nn

from headrace.data.batch import Batch, TensorBatch
from headrace.errors import TrainingError
from headrace.models.gptj import GPTJ
from headrace.models.masks import Mask, packed_causal, packed_prefix_lm
from headrace.training.config import TrainConfig
from headrace.training.guard import Guard
from headrace.training.loss import SummedLoss, summed_loss
from headrace.training.optimizer import set_learning_rate


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
    guard: Guard | None = None,
) -> StepResult:
    """Move the weights once, along the mean gradient over all labels of the batch.

    Args:
        model: Its weights are changed in place.
        optimizer: Over the model's weights; the schedule sets its learning rate.
        batch: All rows of the step; they pass through the model `config.microbatch_rows` at a time.
        config: Mask, precision, z-loss, clipping and schedule.
        step: Which step this is, from 1.
        guard: Knows the steps before, and which to skip.

    Raises:
        TrainingError: No label, or a step that would be skipped and may not be; the weights are as they were.
    """
    labels = batch.scored()
    if not labels:
        raise TrainingError(f"Step {step:,} has no label to learn from. Check the objectives of train.data.sources.")
    total = torch.zeros(())
    for start in range(0, config.data.rows, config.microbatch_rows):
        loss = forward(model, batch.rows(start, start + config.microbatch_rows).torch(), config)
        # Denoising and instructions score a different number of labels per microbatch. Dividing each
        # sum by the step's total weighs every label equally; a mean per microbatch would not.
        (loss.objective / labels).backward()
        total += loss.cross_entropy
    grad_norm = nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.max_grad_norm)
    loss_value, norm_value = torch.stack((total / labels, grad_norm)).tolist()
    skipped = (guard or Guard(config.guard)).objection(step, loss=loss_value, grad_norm=norm_value)
    learning_rate = config.schedule.learning_rate(step - 1)
    if not skipped:
        set_learning_rate(optimizer, learning_rate)
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return StepResult(
        step=step,
        loss=loss_value,
        grad_norm=norm_value,
        learning_rate=learning_rate,
        labels=labels,
        tokens=batch.filled(),
        skipped=skipped,
    )


def forward(model: GPTJ, batch: TensorBatch, config: TrainConfig) -> SummedLoss:
    """Loss of one microbatch, summed over its labels, under the mask the configuration promises."""
    with torch.autocast(batch.tokens_BT.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        hidden_BTD = model.hidden(batch.tokens_BT, mask_of(batch, config))
        return summed_loss(model.head, hidden_BTD, batch.labels_BT, config.z_loss)


def mask_of(batch: TensorBatch, config: TrainConfig) -> Mask:
    """Documents see themselves alone; their prompts are seen whole where the mask is `prefix`."""
    if config.mask == "prefix":
        return packed_prefix_lm(batch.segments_BT, batch.prefix_BT)
    return packed_causal(batch.segments_BT)
