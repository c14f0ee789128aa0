"""Training steps beside transformers' `Trainer`: one GPT-J of 7 M parameters, one batch, fp32, one CPU.

Both take the same optimizer steps on the same random tokens, causal, AdamW with clipping at 1. The rate is that of
the steps after the first two, the forward and backward pass and the update included.
"""

import statistics
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.alternate import Measured, beside_trainer, others_note
from benchmarks.options import Options
from benchmarks.tables import Table
from benchmarks.training.case import TOKENS, batch_of, tokens, train_config
from benchmarks.training.peer import step_seconds

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


def headrace(context: int) -> dict[str, Any]:
    """Our side: `take_step` on one batch of `TOKENS` positions, seconds a step, and FLOP/s of a product between."""
    import numpy as np
    import torch

    from headrace import peaks, resident
    from headrace.models.gptj import GPTJ
    from headrace.training import optimizer as optimizers
    from headrace.training.parallel import ALONE
    from headrace.training.sharding import place
    from headrace.training.step import take_step

    resident.keep_freed()  # as `train` does first
    config = train_config(context)
    torch.manual_seed(0)
    model = place(GPTJ(config.model), ALONE)
    optimizer = optimizers.build(model, config.optimizer)
    ones = np.ones((TOKENS // context, context), np.int32)
    batch = batch_of(tokens(context), ones, ones == 0)
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
    return {"seconds": statistics.median(step_seconds(context, WARM_STEPS + STEPS)[WARM_STEPS:])}
