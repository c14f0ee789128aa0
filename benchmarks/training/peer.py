"""transformers' `Trainer` on the same work, as other benchmarks race it."""

import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.training.case import SHAPE, TOKENS, tokens


def build_peer(
    context: int,
    steps: int,
    folder: str,
    callback: Any,
    *,
    shape: Mapping[str, int] = SHAPE,
    rows: int = 0,
    **options: Any,
) -> Any:
    """A `Trainer` of the same model, with transformers' eager attention, on random tokens in memory.

    Args:
        context: Tokens of a row.
        steps: Optimizer steps.
        folder: What it writes goes there.
        callback: Told of its steps.
        shape: The model's.
        rows: Of a step; those that make `TOKENS` positions where 0.
        options: More of its arguments, or others.
    """
    import torch
    from transformers import GPTJConfig, GPTJForCausalLM, Trainer, TrainingArguments

    rows = rows or TOKENS // context
    config = GPTJConfig(
        vocab_size=shape["vocab_size"],
        n_positions=context,
        n_embd=shape["d_model"],
        n_layer=shape["n_layer"],
        n_head=shape["n_head"],
        n_inner=shape["d_ff"],
        rotary_dim=shape["rotary_dim"],
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
    )
    torch.manual_seed(0)
    stream_RT = torch.from_numpy(tokens(context, rows, shape["vocab_size"])[:, :-1].copy())
    examples = [{"input_ids": row, "labels": row} for row in stream_RT] * steps
    quiet = {"report_to": [], "logging_strategy": "no", "disable_tqdm": True}
    asked = {"per_device_train_batch_size": rows, "max_grad_norm": 1.0, "use_cpu": True, **quiet, **options}
    arguments = TrainingArguments(output_dir=folder, max_steps=steps, **asked)
    return Trainer(model=GPTJForCausalLM(config), args=arguments, train_dataset=examples, callbacks=[callback])


def step_seconds(context: int, steps: int, settle: Callable[[], object] = lambda: None, **options: Any) -> list[float]:
    """Seconds of each step, from its beginning to the next one's.

    Args:
        context: Tokens of a row.
        steps: Optimizer steps.
        settle: Waits until a device has done all it was given, before the clock is read.
        options: What `build_peer` takes besides.
    """
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.at: list[float] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            settle()
            self.at.append(time.perf_counter())

        on_train_end = on_step_begin

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        build_peer(context, steps, folder, clock, save_strategy="no", **options).train()
    return [after - before for before, after in zip(clock.at, clock.at[1:], strict=False)]
