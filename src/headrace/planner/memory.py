"""What a device holds at the moment it holds most, part by part, in bytes.

Weights, gradients and moments are fp32 whatever the precision. What the backward pass needs is counted tensor by
tensor as `models/gptj.py` saves it, the loss as `training/loss.py` computes it. On a CPU this is exact before the
allocator's own losses, which calibration adds; on accelerators nobody has measured it yet.

Letters: N tokens of one microbatch, D model width, F feed-forward width, H heads, T context, V vocabulary.
"""

import functools
from dataclasses import dataclass
from typing import Literal

import torch

from headrace.models import tiling
from headrace.models.masks import packed_causal
from headrace.models.size import count_parameters
from headrace.planner.layout import Layout
from headrace.planner.shapes import two_documents
from headrace.training.config import TrainConfig
from headrace.training.loss import BLOCK_LOGITS

FP32, BF16, INT64 = 4, 2, 8
BATCHES_ALIVE = 3
"""The one in use and two made ahead."""
KEPT_APART = {"none": 0, "proxskip": 1, "diloco": 2, "compressed": 1}
"""Tensors for each weight that workers apart keep: control variates; common weights and momentum; common weights, and
momentum where there is any."""
EXCHANGED = {"none": 0, "proxskip": 0, "diloco": 1, "compressed": 0}
"""Tensors for each weight that an exchange makes beside them; ProxSkip goes through the weights piece by piece."""
Recompute = Literal["none", "selective", "layers"]
"""What a layer computes again for its backward pass: nothing, all but its products and attention, or everything."""
Attention = Literal["sdpa", "tiles", "flash", "math"]
"""Its mask written out once for all heads; on CPUs, by tiles where that is the faster, with two documents a row; no
mask at all, as in flash or flex kernels; or all its scores kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """How a step is computed, as far as memory and time depend on it."""

    layout: Layout
    recompute: Recompute = "none"
    attention: Attention = "sdpa"
    block_logits: int = BLOCK_LOGITS
    """Logits that the loss holds at one time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Bytes of one device at its fullest moment."""

    weights: int
    moments: int
    gradients: int
    activations: int
    """Kept for the backward pass, attention's masks included."""
    loss: int
    """Logits of a block, and the head's gradient while it is collected."""
    working: int
    """Copies of weights in the precision of products, and what a layer's backward pass makes on its way."""
    batches: int
    averaging: int = 0
    """What workers who train apart keep from one exchange to the next."""
    baseline: int = 0
    """Of the process, before there is a model."""
    allocator: int = 0
    """Held by the allocator and not in use; from calibration."""

    @property
    def tensors(self) -> int:
        """Everything but the process and its allocator."""
        return self.total - self.baseline - self.allocator

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.parts().values())

    def parts(self) -> dict[str, int]:
        """Bytes by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def predict_memory(train: TrainConfig, execution: Execution) -> Memory:
    """What a device holds when it holds most; the process itself is left out."""
    layout, sizes = execution.layout, count_parameters(train.model)
    shared = layout.shards * layout.tensor * layout.pipeline
    state = sizes.total * FP32 // shared
    steady = {
        "weights": state,
        "moments": 2 * state,
        "averaging": _kept_apart(train) * state,
        "batches": BATCHES_ALIVE * train.data.rows * train.data.context_tokens * (2 * INT64 + 4 + 1),
    }
    moments = [Memory(**steady, **parts) for parts in _moments(train, execution, state)]
    return max(moments, key=lambda memory: memory.total)


def _moments(train: TrainConfig, execution: Execution, state: int) -> list[dict[str, int]]:
    """When a step may be fullest: at the loss, as the backward pass begins or nears its end, in the update.

    Args:
        state: Bytes of one whole set of gradients, as this device holds it.
    """
    layout, model, sizes = execution.layout, train.model, count_parameters(train.model)
    before = state if layout.microbatches(train) > 1 else 0
    alive = min(layout.pipeline, layout.microbatches(train))
    layers = model.n_layer // layout.pipeline
    kept, again = kept_by_layer(train, execution), made_again(train, execution)
    mask = _mask_bytes(train, execution)
    full = layers * kept * alive + _final_norm_bytes(train) + mask
    copies = _copied_weights(train, execution)
    backward = copies + again + _layer_gradients(train, execution)
    head = sizes.head * FP32 // layout.tensor
    still_to_come = state * (sizes.layers // model.n_layer + sizes.embedding) // sizes.total
    last = max(before, state - still_to_come)
    loss = _loss_bytes(train, execution)
    return [
        {"gradients": before, "activations": full, "loss": loss, "working": copies},
        {"gradients": max(before, head), "activations": full, "loss": head if before else 0, "working": backward},
        {"gradients": last, "activations": kept + mask, "loss": 0, "working": backward},
        {"gradients": state, "activations": 0, "loss": 0, "working": EXCHANGED[train.averaging.kind] * state},
    ]


def _kept_apart(train: TrainConfig) -> int:
    averaging = train.averaging
    outer = averaging.kind == "compressed" and averaging.compression.outer_momentum > 0
    return KEPT_APART[averaging.kind] + outer


def saved_by_layer(train: TrainConfig, execution: Execution) -> int:
    """What one layer saves for one microbatch where nothing is computed again."""
    model, layout = train.model, execution.layout
    tokens, size = _tokens(train), _size(train)
    # Normalised once; with bf16 each of the two products that read it has a rounded copy of its own.
    normed = model.d_model * (FP32 if train.precision == "fp32" else 2 * BF16)
    # q, k and v; q and k turned; what was mixed. Tiles need the turned alone.
    attention = (6 if keys_met(train, execution) is None else 4) * model.d_model // layout.tensor * size
    feed_forward = 2 * model.d_ff // layout.tensor * size
    statistics = 2 * FP32
    saved = tokens * (model.d_model * FP32 + normed + attention + feed_forward + statistics)
    return saved + _attention_bytes(train, execution)


def kept_by_layer(train: TrainConfig, execution: Execution) -> int:
    """What one layer keeps from its forward pass to its backward pass."""
    if execution.recompute == "none":
        return saved_by_layer(train, execution)
    model, tensor, tokens = train.model, execution.layout.tensor, _tokens(train)
    entered = tokens * model.d_model * FP32
    if execution.recompute == "layers":
        return entered
    # Results of the products: q, k and v; what was mixed; and of the feed-forward; both that rise to the residual.
    products = (4 * model.d_model + model.d_ff) // tensor + 2 * model.d_model
    return entered + tokens * products * _size(train) + _attention_bytes(train, execution)


def made_again(train: TrainConfig, execution: Execution) -> int:
    """What one layer holds beyond what it kept, while its backward pass runs."""
    if execution.recompute == "none":
        return 0
    model, tensor, tokens = train.model, execution.layout.tensor, _tokens(train)
    if execution.recompute == "layers":
        return saved_by_layer(train, execution) - tokens * model.d_model * FP32
    return tokens * (model.d_model * FP32 + (2 * model.d_model + model.d_ff) // tensor * _size(train))


def _attention_bytes(train: TrainConfig, execution: Execution) -> int:
    """What attention saves in each layer beside queries, keys, values and its result."""
    tokens, context, heads = _tokens(train), train.data.context_tokens, train.model.n_head // execution.layout.tensor
    if execution.attention == "math":
        return tokens * heads * context * _size(train)
    if (keys := keys_met(train, execution)) is not None:
        return round(tokens * heads * keys) * FP32
    # With bf16 the mask is rounded anew in every layer.
    mask = tokens * _keys_written_out(train, execution) * BF16 if train.precision != "fp32" else 0
    return tokens * heads * FP32 + round(mask)


def keys_met(train: TrainConfig, execution: Execution) -> float | None:
    """Keys that a query meets on average where attention goes by tiles; None where it does not."""
    if execution.attention != "tiles" or execution.recompute != "none" or train.precision != "fp32":
        return None
    return _keys_of_two_documents(train.data.context_tokens, train.model.n_head)


@functools.cache
def _keys_of_two_documents(context: int, heads: int) -> float | None:
    segments_1T = torch.from_numpy(two_documents(1, context))
    groups = tiling.cut(packed_causal(segments_1T).dense(context), 1, context, heads)
    return None if groups is None else tiling.mean_keys(groups)


def _final_norm_bytes(train: TrainConfig) -> int:
    """What the final norm reads and gives, and its statistics."""
    return _tokens(train) * (train.model.d_model * (FP32 + _size(train)) + 2 * FP32)


def _mask_bytes(train: TrainConfig, execution: Execution) -> int:
    """The mask that all layers share."""
    return round(_tokens(train) * _keys_written_out(train, execution)) * FP32


def _keys_written_out(train: TrainConfig, execution: Execution) -> float:
    """Keys that the mask says of each query whether it may see them: the whole row's, those it meets, or none."""
    if execution.attention not in ("sdpa", "tiles"):
        return 0
    return keys_met(train, execution) or train.data.context_tokens


def _loss_bytes(train: TrainConfig, execution: Execution) -> int:
    """The head's gradients and one block of logits, or two while the next replaces it."""
    tokens, size, tensor = _tokens(train), _size(train), execution.layout.tensor
    rows, width = train.model.vocab_size // tensor, train.model.d_model
    block = min(tokens, max(1, execution.block_logits // rows))
    logits = block * rows * (FP32 if size == FP32 else FP32 + BF16)
    ahead = min(block, tokens - block) * rows * FP32
    collected = tokens * width * size + rows * (width + 1) * FP32
    return collected + block * width * size + logits + max(ahead, rows * width * size)


def _layer_gradients(train: TrainConfig, execution: Execution) -> int:
    """What the backward pass of one layer adds at once: its widest gradient, and the residual stream's."""
    model, tensor = train.model, execution.layout.tensor
    return _tokens(train) * (model.d_ff // tensor * _size(train) + 2 * model.d_model * FP32)


def _copied_weights(train: TrainConfig, execution: Execution) -> int:
    """Weights rounded for products: all of them where replicas hold them whole, two layers where they are gathered."""
    if train.precision == "fp32" and execution.layout.shards == 1:
        return 0
    layout, sizes = execution.layout, count_parameters(train.model)
    layers = train.model.n_layer // layout.pipeline
    held = min(layers, 2) if layout.shards > 1 else layers
    copied = held * sizes.layers // train.model.n_layer + sizes.head
    return copied * _size(train) // layout.tensor


def _tokens(train: TrainConfig) -> int:
    return train.microbatch_rows * train.data.context_tokens


def _size(train: TrainConfig) -> int:
    """Bytes of a number in products."""
    return FP32 if train.precision == "fp32" else BF16
