"""Training steps under masks: attention by tiles beside torch's own under a written-out matrix.

The model and the tokens of a step are those of `case.py`. Packed rows hold documents of 150 tokens on average;
a prompt is a third of a row, or half of a document.
"""

import statistics
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.alternate import Measured, Side, alternate, others_note
from benchmarks.options import Options
from benchmarks.tables import Table
from benchmarks.training.case import TOKENS, batch_of, tokens, train_config

CONTEXTS = (256, 512, 2048)
MASKS = ("causal", "prefix", "packed", "packed prefix")
DOCUMENT_TOKENS = 150
WARM_STEPS, STEPS = 1, 4


def run(options: Options) -> Iterator[Table]:
    """One table: a process for each context, in which steps of both kinds take turns."""
    sides = {str(context): Side(f"{__name__}:headrace", {"context": context}) for context in CONTEXTS}
    measured = alternate(sides, options.rounds)
    yield Table(
        title="Training steps under masks, CPU",
        rows=[_row(context, mask, one) for context, one in measured.items() for mask in MASKS],
        notes=[
            "Causal rows of 2,048 tokens are left to torch's attention on both sides, as are rows whose queries meet "
            "most keys.",
            others_note(measured.values()),
        ],
        numbers={name: one.runs for name, one in measured.items()},
    )


def _row(context: str, mask: str, measured: Measured) -> dict[str, str]:
    dense, tiles = (measured.median(f"{mask} by {kind}") for kind in ("dense", "tiles"))
    return {
        "context": context,
        "mask": mask,
        "under the matrix, tokens/s": f"{TOKENS / dense:,.0f}",
        "by tiles, tokens/s": f"{TOKENS / tiles:,.0f}",
        "times": f"{dense / tiles:.2f}",
    }


def headrace(context: int) -> dict[str, Any]:
    """Seconds a step, the median by mask and kind of attention."""
    import torch

    from headrace import resident
    from headrace.models.gptj import GPTJ
    from headrace.training import optimizer as optimizers
    from headrace.training.step import take_step

    resident.keep_freed()  # as `train` does first
    torch.manual_seed(0)
    shared = train_config(context)
    model = GPTJ(shared.model)
    optimizer = optimizers.build(model, shared.optimizer)
    batches, seconds = {mask: masked(context, mask) for mask in MASKS}, dict[str, list[float]]()
    for step in range(WARM_STEPS + STEPS):
        for mask, (batch, config) in batches.items():
            for model.attention in ("dense", "tiles"):
                began = time.perf_counter()
                take_step(model, optimizer, batch, config, step + 1)
                seconds.setdefault(f"{mask} by {model.attention}", []).append(time.perf_counter() - began)
    medians = {name: statistics.median(taken[WARM_STEPS:]) for name, taken in seconds.items()}
    return {"seconds": sum(medians.values()), **medians}


def masked(context: int, mask: str) -> tuple[Any, Any]:
    """A batch, and the configuration that reads it so."""
    import numpy as np

    draw = np.random.default_rng(0)
    shape = TOKENS // context, context
    begins = draw.random(shape) < ("packed" in mask) / DOCUMENT_TOKENS
    segments = 1 + begins.cumsum(1).astype(np.int32)
    place = np.broadcast_to(np.arange(context), shape)
    since = place - np.maximum.accumulate(np.where(begins, place, 0), 1)
    prompt = since < (DOCUMENT_TOKENS // 2 if "packed" in mask else context // 3)
    prefix = prompt & ("prefix" in mask)
    config = train_config(context, mask="prefix" if "prefix" in mask else "causal")
    return batch_of(tokens(context), segments, prefix), config
