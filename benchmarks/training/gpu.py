"""Training steps on one GPU, in bf16: GPT-J of 1.3 B parameters beside transformers' `Trainer`, and 6 B alone.

Nothing is measured where there is no GPU, and the table says so.
"""

import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.alternate import Measured, Side, alternate, others_note
from benchmarks.options import Options
from benchmarks.tables import Table
from benchmarks.training.case import batch_of, tokens, train_config
from benchmarks.training.peer import step_seconds

SHAPE = {"vocab_size": 50400, "n_layer": 24, "d_model": 2048, "n_head": 16, "d_ff": 8192, "rotary_dim": 64}
"""1.4 B parameters with both tables, 1.2 B of them in layers."""
WHOLE: dict[str, int] = {}
"""GPT-J 6B, which a model is where nothing else is said."""
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
    arguments = {"mask": "causal", "shape": WHOLE, **CASE, "recompute": "layers"}
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


def headrace(
    mask: str, shape: Mapping[str, int], context: int, rows: int, microbatch: int, recompute: Any = "none"
) -> dict[str, Any]:
    """Our side: `take_step` on one batch, whose losses are read after each."""
    import torch

    from headrace.devices import pick
    from headrace.models.gptj import GPTJ
    from headrace.training import optimizer as optimizers
    from headrace.training.parallel import Replicas
    from headrace.training.sharding import place
    from headrace.training.step import take_step

    config, replicas = _config(shape, context, rows, microbatch, mask), Replicas(device=pick())
    torch.manual_seed(0)
    with replicas.device.torch:
        model = place(GPTJ(config.model), replicas)
    model.recompute = recompute
    optimizer = optimizers.build(model, config.optimizer)
    data, seconds = batch(mask, config.model.vocab_size, context, rows), []
    for step in range(1, config.steps + 1):
        began = time.perf_counter()
        take_step(model, optimizer, data, config, step, replicas)
        seconds.append(time.perf_counter() - began)
    return _measured(seconds, config, replicas.device)


def transformers_trainer(shape: Mapping[str, int], context: int, rows: int, microbatch: int) -> dict[str, Any]:
    """The peer: `Trainer` from one step's beginning to the next one's, once the device has done all before."""
    import torch

    from headrace.devices import pick

    config, device = _config(shape, context, rows, microbatch), pick()
    parts = {"per_device_train_batch_size": microbatch, "gradient_accumulation_steps": rows // microbatch}
    options = {"shape": shape, "rows": rows, "bf16": True, "use_cpu": device.kind == "cpu", **parts}
    if device.kind == "cuda":
        options["settle"] = torch.cuda.synchronize
    return _measured(step_seconds(context, config.steps, **options), config, device)


def batch(mask: str, vocabulary: int, context: int, rows: int) -> Any:
    """Rows of one document under `causal`, of `DOCUMENTS` under `prefix`; every position is scored."""
    import numpy as np

    size = context // DOCUMENTS if mask == "prefix" else context
    place_BT = np.tile(np.arange(context), (rows, 1))
    prefix_BT = (place_BT % size < size // 2) & (mask == "prefix")
    segments_BT = (1 + place_BT // size).astype(np.int32)
    return batch_of(tokens(context, rows, vocabulary), segments_BT, prefix_BT)


def _config(shape: Mapping[str, int], context: int, rows: int, microbatch: int, mask: str = "causal") -> Any:
    """Ours; the peer's work is counted by it too."""
    others = {"microbatch_rows": microbatch, "mask": mask, "precision": "bf16", "steps": WARM_STEPS + STEPS}
    return train_config(context, shape, rows, **others)


def _measured(seconds: list[float], config: Any, device: Any) -> dict[str, Any]:
    from headrace.training.work import count_work

    work, middle = count_work(config), statistics.median(seconds[WARM_STEPS:])
    peak = device.peak_flops("bf16") or float("nan")
    return {
        "seconds": middle,
        "tokens": work.tokens,
        "mfu": work.flops / middle / peak,
        "device_bytes": device.peak_memory_bytes(),
    }
