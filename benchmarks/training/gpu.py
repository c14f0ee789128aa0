"""Training steps on one GPU, in bf16: GPT-J of 1.3 B parameters beside transformers' `Trainer`, and 6 B alone.

Nothing is measured where there is no GPU, and the table says so.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.alternate import Measured, Side, alternate, others_note
from benchmarks.options import Options
from benchmarks.tables import Table
from benchmarks.training.trainer import build_peer, tokens

SHAPE = {"vocab_size": 50400, "n_layer": 24, "d_model": 2048, "n_head": 16, "d_ff": 8192, "rotary_dim": 64}
"""1.4 B parameters with both tables, 1.2 B of them in layers."""
WHOLE = {"vocab_size": 50400, "n_layer": 28, "d_model": 4096, "n_head": 16, "d_ff": 16384, "rotary_dim": 64}
"""GPT-J 6B."""
CASE = {"context": 2048, "rows": 16, "microbatch": 4}
"""Equal on both sides."""
WHOLE_BYTES = 130 * 2**30
"""Weights, gradients and moments of 6 B in fp32 take 97 GB; what layers keep comes on top."""
WARM_STEPS, STEPS = 3, 8
DOCUMENTS = 4
"""Of a row, of equal length, in packed rows; the first half of each is a prompt."""
ASKED_MFU, ASKED_RATIO, ASKED_MASKS = 0.55, 4.0, 0.9


def run(options: Options) -> Iterator[Table]:
    """Tokens a second, MFU and memory of three sides in turns, then of 6 B where the GPU holds it."""
    import torch

    if not torch.cuda.is_available():
        yield Table(title="Training steps on one GPU", rows=[], notes=["There is no GPU: nothing was measured."])
        return
    ours = {"shape": SHAPE, **CASE}
    sides = {
        "causal": Side(f"{__name__}:headrace", {"mask": "causal", **ours}),
        "packed prefixes": Side(f"{__name__}:headrace", {"mask": "prefix", **ours}),
        "transformers.Trainer": Side(f"{__name__}:transformers_trainer", ours),
    }
    yield table(torch.cuda.get_device_name(), alternate(sides, options.rounds))
    if torch.cuda.get_device_properties(0).total_memory < WHOLE_BYTES:
        yield Table(title="GPT-J 6B on one GPU", rows=[], notes=["This GPU does not hold it: nothing was measured."])
        return
    os.environ["HEADRACE_RECOMPUTE"] = "layers"
    arguments = {"mask": "causal", "shape": WHOLE, **CASE}
    measured = alternate({"6 B, causal": Side(f"{__name__}:headrace", arguments)}, 1)
    numbers = {name: one.runs for name, one in measured.items()}
    yield Table(title="GPT-J 6B on one GPU", rows=[_row(*one) for one in measured.items()], numbers=numbers)


def table(device: str, measured: Mapping[str, Measured]) -> Table:
    """Rates of the three sides, medians over the rounds, and what was asked for."""
    rates = {name: one.median("tokens") / one.median() for name, one in measured.items()}
    ratio, masks = (rates["causal"] / rates["transformers.Trainer"], rates["packed prefixes"] / rates["causal"])
    notes = [
        f"{device}, bf16 with fp32 weights and moments, {CASE['rows']} rows of {CASE['context']} tokens a step, "
        f"{CASE['microbatch']} at a time.",
        f"headrace is {ratio:.2f} times as fast (asked for: {ASKED_RATIO:g}); MFU counts attention over the whole "
        f"context, and what a GPU's maker publishes (asked for: {ASKED_MFU:.0%}).",
        f"Under packed prefixes it keeps {masks:.0%} of its rate under the causal mask (asked for: {ASKED_MASKS:.0%}).",
        others_note(measured.values()),
    ]
    numbers = {name: one.runs for name, one in measured.items()} | {"ratio": ratio, "masks": masks}
    rows = [_row(*one) for one in measured.items()]
    return Table(title="Training steps on one GPU", rows=rows, notes=notes, numbers=numbers)


def _row(name: str, measured: Measured) -> dict[str, str]:
    return {
        "side": name,
        "tokens/s": f"{measured.median('tokens') / measured.median():,.0f}",
        "s a step": f"{measured.median():.3f} ± {measured.spread() / 2:.0%}",
        "MFU": f"{measured.median('mfu'):.1%}",
        "peak GiB": f"{measured.median('device_bytes') / 2**30:.1f}",
    }


def headrace(mask: str, shape: Mapping[str, int], context: int, rows: int, microbatch: int) -> dict[str, Any]:
    """Our side: `take_step` on one batch, whose losses are read after each."""
    import torch

    from headrace.models.gptj import GPTJ
    from headrace.training import optimizer as optimizers
    from headrace.training.parallel import Replicas
    from headrace.training.sharding import place
    from headrace.training.step import take_step

    config, replicas = train_config(mask, shape, context, rows, microbatch), Replicas(device=_device())
    torch.manual_seed(0)
    with replicas.device.torch:
        model = place(GPTJ(config.model), replicas)
    optimizer = optimizers.build(model, config.optimizer)
    data, seconds = batch(mask, shape["vocab_size"], context, rows), []
    for step in range(1, WARM_STEPS + STEPS + 1):
        began = time.perf_counter()
        take_step(model, optimizer, data, config, step, replicas)
        seconds.append(time.perf_counter() - began)
    return _measured(seconds, config)


def transformers_trainer(shape: Mapping[str, int], context: int, rows: int, microbatch: int) -> dict[str, Any]:
    """The peer: `Trainer` from one step's beginning to the next one's, once the device has done all before."""
    import torch
    from transformers import TrainerCallback

    device = _device()

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.at: list[float] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if device.kind == "cuda":
                torch.cuda.synchronize()
            self.at.append(time.perf_counter())

        on_train_end = on_step_begin

    clock, steps = Clock(), WARM_STEPS + STEPS
    parts = {"per_device_train_batch_size": microbatch, "gradient_accumulation_steps": rows // microbatch}
    options = {"bf16": True, "use_cpu": device.kind == "cpu", "save_strategy": "no", **parts}
    with tempfile.TemporaryDirectory() as folder:
        build_peer(context, steps, folder, clock, shape=shape, rows=rows, **options).train()
    seconds = [after - before for before, after in zip(clock.at, clock.at[1:], strict=False)]
    return _measured(seconds, train_config("causal", shape, context, rows, microbatch))


def batch(mask: str, vocabulary: int, context: int, rows: int) -> Any:
    """Rows of one document under `causal`, of `DOCUMENTS` under `prefix`; every position is scored."""
    import numpy as np

    from headrace.data.batch import Batch

    stream_RT = tokens(context, rows, vocabulary)
    size = context // DOCUMENTS if mask == "prefix" else context
    place_BT = np.tile(np.arange(context), (rows, 1))
    prefix_BT = (place_BT % size < size // 2) & (mask == "prefix")
    segments_BT = (1 + place_BT // size).astype(np.int32)
    return Batch(stream_RT[:, :-1].copy(), stream_RT[:, 1:].copy(), segments_BT, prefix_BT)


def _measured(seconds: list[float], config: Any) -> dict[str, Any]:
    from headrace.training.work import count_work

    device, work, middle = _device(), count_work(config), statistics.median(seconds[WARM_STEPS:])
    peak = device.peak_flops("bf16") or float("nan")
    return {
        "seconds": middle,
        "tokens": work.tokens,
        "mfu": work.flops / middle / peak,
        "device_bytes": device.peak_memory_bytes(),
    }


def _device() -> Any:
    from headrace.devices import pick

    return pick()


def train_config(mask: str, shape: Mapping[str, int], context: int, rows: int, microbatch: int) -> Any:
    """Our side's configuration; the peer's work is counted by it too."""
    from headrace.data.loader import LoaderConfig, SourceConfig
    from headrace.models.gptj import GPTJConfig
    from headrace.training.config import TrainConfig

    return TrainConfig(
        model=GPTJConfig(**shape, context_tokens=context),
        data=LoaderConfig(context_tokens=context, rows=rows, sources={"text": SourceConfig()}),
        steps=WARM_STEPS + STEPS,
        microbatch_rows=microbatch,
        precision="bf16",
        mask="prefix" if mask == "prefix" else "causal",
    )
