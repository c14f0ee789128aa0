"""What a step computes: floating-point operations as the field counts them.

Counted are the products alone, two operations for each multiplication and addition, three times over: forward, and
backward to inputs and to weights. Attention counts every query against every key, seen or not. What is computed
again to save memory is no work of the model and is not in here.

Source: appendix B of PaLM (arXiv:2204.02311), which defines model FLOPs utilization.
"""

from dataclasses import dataclass

from headrace.training.config import TrainConfig

PASSES = 3
"""Forward, backward to inputs, backward to weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepWork:
    """Floating-point operations of one optimizer step, over all devices."""

    tokens: int
    layer_flops: int
    attention_flops: int
    head_flops: int
    """As if every position had a label; denoising and instructions score fewer."""

    @property
    def flops(self) -> int:
        """All of them."""
        return self.layer_flops + self.attention_flops + self.head_flops


def count_work(train: TrainConfig) -> StepWork:
    """Operations of one step of a configuration."""
    model, context = train.model, train.data.context_tokens
    tokens = train.data.rows * context
    products = 4 * model.d_model**2 + 2 * model.d_model * model.d_ff
    return StepWork(
        tokens=tokens,
        layer_flops=PASSES * 2 * tokens * model.n_layer * products,
        attention_flops=PASSES * 4 * tokens * model.n_layer * model.d_model * context,
        head_flops=PASSES * 2 * tokens * model.d_model * model.vocab_size,
    )
