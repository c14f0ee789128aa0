"""Training steps beside transformers' `Trainer`: one GPT-J of 7 M parameters, one batch, fp32, one CPU.

Both take the same optimizer steps on the same random tokens, causal, AdamW with clipping at 1. The rate is that of
the steps after the first two, the forward and backward pass and the update included.
"""

import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.alternate import Measured, beside_trainer, others_note
from benchmarks.options import Options
from benchmarks.tables import Table

SHAPE = {"vocab_size": 4096, "n_layer": 7, "d_model": 256, "n_head": 4, "d_ff": 1024, "rotary_dim": 32}
TOKENS = 8192
"""Positions of a step, at any context."""
WARM_STEPS, STEPS = 2, 6
ASKED = {512: 1.6, 2048: 3.0}
GEMMS = 8
"""Square products that are timed after each step."""
ASKED_OF_GEMM = 0.7


def run(options: Options) -> Iterator[Table]:
    """A table for each context: tokens a second on both sides, and ours beside a plain matrix product."""
    for context, asked in ASKED.items():
        arguments = {"context": context}
        yield table(context, asked, beside_trainer(__name__, options.rounds, arguments, arguments))


def table(context: int, asked: float, measured: dict[str, Measured]) -> Table:
    """Rates of both sides, medians over the rounds.

    Args:
        context: Tokens of a row.
        asked: How many times as fast as the peer headrace is to be.
        measured: By side: seconds a step; for headrace the machine's FLOP/s at a matrix product too.
    """
    from headrace import peaks

    rates = {name: TOKENS / one.median() for name, one in measured.items()}
    ours, peer = rates["headrace"], rates["transformers.Trainer"]
    of_gemm = ours * flops_a_token(context) / measured["headrace"].median("gemm_flops")
    rows = [
        {
            "side": name,
            "tokens/s": f"{rates[name]:,.0f}",
            "s a step": f"{one.median():.3f} ± {100 * one.spread():.0f}%",
            "peak MiB": f"{one.median('peak_bytes') / 2**20:,.0f}",
        }
        for name, one in measured.items()
    ]
    notes = [
        f"headrace is {ours / peer:.2f} times as fast (asked for: {asked}).",
        f"Its products and attention, {flops_a_token(context) / 1e6:.1f} MFLOP a token, run at {100 * of_gemm:.0f} % "
        f"of the rate of a {peaks.SIZE}³ fp32 product on the same cores between the steps, both medians "
        f"(asked for at 512: {100 * ASKED_OF_GEMM:.0f} %).",
        others_note(measured.values()),
    ]
    numbers = {name: one.runs for name, one in measured.items()} | {"ratio": ours / peer, "of_gemm": of_gemm}
    return Table(title=f"Training steps at context {context}", rows=rows, notes=notes, numbers=numbers)


def flops_a_token(context: int) -> float:
    """Model FLOPs as `headrace.training.work` counts them: attention over the whole context, seen or not."""
    from headrace.training.work import count_work

    work = count_work(train_config(context))
    return work.flops / work.tokens


def train_config(context: int) -> Any:
    """Our side's configuration."""
    from headrace.data.loader import LoaderConfig, SourceConfig
    from headrace.models.gptj import GPTJConfig
    from headrace.training.config import TrainConfig

    rows = TOKENS // context
    return TrainConfig(
        model=GPTJConfig(**SHAPE, context_tokens=context),
        data=LoaderConfig(context_tokens=context, rows=rows, sources={"text": SourceConfig()}),
        steps=WARM_STEPS + STEPS,
        microbatch_rows=rows,
    )


def headrace(context: int) -> dict[str, Any]:
    """Our side: `take_step` on one batch of `TOKENS` positions, seconds a step, and FLOP/s of a product between."""
    import numpy as np
    import torch

    from headrace import peaks, resident
    from headrace.data.batch import Batch
    from headrace.models.gptj import GPTJ
    from headrace.training import optimizer as optimizers
    from headrace.training.parallel import ALONE
    from headrace.training.sharding import place
    from headrace.training.step import take_step

    resident.keep_freed()  # as `train` does first
    config, rows = train_config(context), TOKENS // context
    torch.manual_seed(0)
    model = place(GPTJ(config.model), ALONE)
    optimizer = optimizers.build(model, config.optimizer)
    stream_RT = tokens(context)
    ones = np.ones((rows, context), np.int32)
    batch = Batch(stream_RT[:, :-1].copy(), stream_RT[:, 1:].copy(), ones, ones == 0)
    seconds, products = [], []
    for step in range(1, WARM_STEPS + STEPS + 1):
        began = time.perf_counter()
        take_step(model, optimizer, batch, config, step)
        seconds.append(time.perf_counter() - began)
        products += peaks.product_seconds(torch.float32, GEMMS)
    rate = 2 * peaks.SIZE**3 / statistics.median(products)
    return {"seconds": statistics.median(seconds[WARM_STEPS:]), "gemm_flops": rate}


def transformers_trainer(context: int) -> dict[str, Any]:
    """The peer: seconds a step of `Trainer`, from one step's beginning to the next one's."""
    import tempfile

    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.at: list[float] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.at.append(time.perf_counter())

        on_train_end = on_step_begin

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        build_peer(context, WARM_STEPS + STEPS, folder, clock, save_strategy="no").train()
    steps = [after - before for before, after in zip(clock.at, clock.at[1:], strict=False)]
    return {"seconds": statistics.median(steps[WARM_STEPS:])}


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


def tokens(context: int, rows: int = 0, vocabulary: int = SHAPE["vocab_size"]) -> Any:
    """Random ids, one more than the context in each row: int64; rows of `TOKENS` positions together where 0."""
    import numpy as np

    return np.random.default_rng(0).integers(0, vocabulary, (rows or TOKENS // context, context + 1))
