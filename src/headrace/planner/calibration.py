"""What measured steps of small models teach about this machine: the process's own memory, and rates.

A step's time is modelled as a sum of what it does, each part at a rate of its own; memory as the tensors, scaled by
what the allocator loses, on top of the process. Both are fitted to runs that vary one thing at a time.
"""

import datetime
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from headrace.atomic import write_text
from headrace.cluster.slices import processor
from headrace.config import decode, encode
from headrace.errors import ConfigError
from headrace.models.size import count_parameters
from headrace.planner.layout import Layout
from headrace.planner.measure import Measured, measure
from headrace.planner.memory import Execution, Memory, keys_met, predict_memory, saved_by_layer
from headrace.planner.shapes import EMPTY, SHAPES
from headrace.training.config import TrainConfig
from headrace.training.loss import BLOCK_LOGITS
from headrace.training.work import count_work

FILE = "calibration.json"
ON_CPU = Execution(layout=Layout(), attention="tiles")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Seconds that one of each costs; zero where the runs could not tell."""

    product_flop: float
    attention_flop: float
    """Of a query and a key that meet."""
    logit: float
    """Of the loss: one position's number for one row of the vocabulary."""
    saved_byte: float
    """Of what a layer keeps for its backward pass, and so of everything that is done element by element."""
    touched_weight: float
    """A weight's number passed over: in the update, when a gradient is added, for the head in each block of logits."""

    def seconds(self, train: TrainConfig) -> float:
        """How long a step takes."""
        return float(np.dot(list(_amounts(train)), [getattr(self, name) for name in self.__dataclass_fields__]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Fitted to runs on one machine."""

    processor: str
    threads: int
    torch: str
    date: str
    process_bytes: int
    """Resident before there is a model to speak of."""
    allocator_bytes: int
    """Held beyond that by any run."""
    allocator_factor: float
    """Resident bytes for each byte of tensors."""
    rates: Rates
    memory_error: float
    """Largest error of the runs it was fitted to, as a share."""
    time_error: float

    def apply(self, memory: Memory) -> Memory:
        """Add the process and its allocator to predicted tensors."""
        lost = self.allocator_bytes + (self.allocator_factor - 1) * memory.tensors
        return replace(memory, baseline=self.process_bytes, allocator=round(lost))

    def is_of_here(self) -> bool:
        """Whether it was taken on this processor, with as many threads, and this release of torch."""
        return (self.processor, self.threads, self.torch) == _here()


def _here() -> tuple[str, int, str]:
    return processor(), torch.get_num_threads(), torch.__version__


def _amounts(train: TrainConfig) -> tuple[float, float, float, float, float]:
    """How much of everything in `Rates` a step does."""
    work, sizes = count_work(train), count_parameters(train.model)
    microbatches, context = train.data.rows // train.microbatch_rows, train.data.context_tokens
    blocks = math.ceil(work.tokens / microbatches / max(1, BLOCK_LOGITS // train.model.vocab_size))
    return (
        work.layer_flops + work.head_flops,
        work.attention_flops * (keys_met(train, ON_CPU) or context) / context,
        work.tokens * train.model.vocab_size,
        saved_by_layer(train, ON_CPU) * train.model.n_layer * microbatches,
        sizes.total * (1 + microbatches) + sizes.head * blocks * microbatches,
    )


def calibrate(told: Callable[[str], None] = lambda _: None) -> Calibration:
    """Measure every shape in a fresh process and fit.

    Args:
        told: Told what is being measured, line by line.

    Raises:
        TrainingError: A trial failed.
    """
    told("the process itself")
    empty = measure(EMPTY)
    measured = []
    for number, train in enumerate(SHAPES, 1):
        told(f"shape {number} of {len(SHAPES)}: {count_parameters(train.model).total / 1e6:.1f} M parameters")
        measured.append(measure(train))
    return fit(empty, SHAPES, measured)


def fit(empty: Measured, trains: Sequence[TrainConfig], measured: Sequence[Measured]) -> Calibration:
    """Fit to what was measured, weighing every run's relative error alike.

    Args:
        empty: Of a model too small to matter.
        trains: What the other runs were.
        measured: What they came to.
    """
    seconds = np.array([one.step_seconds for one in measured])
    per_unit = nonnegative_fit(np.array([_amounts(train) for train in trains]) / seconds[:, None])
    rates = Rates(**dict(zip(Rates.__dataclass_fields__, per_unit.tolist(), strict=True)))
    tensors = np.array([predict_memory(train, ON_CPU).tensors for train in trains], float)
    beyond = np.array([one.peak_bytes for one in measured], float) - empty.peak_bytes
    peaks = beyond + empty.peak_bytes
    fixed, factor = nonnegative_fit(
        np.stack([np.ones_like(tensors), tensors], 1) / peaks[:, None], (beyond / peaks).astype(float)
    )
    predicted = empty.peak_bytes + fixed + factor * tensors
    name, threads, release = _here()
    return Calibration(
        processor=name,
        threads=threads,
        torch=release,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        process_bytes=empty.peak_bytes,
        allocator_bytes=round(fixed),
        allocator_factor=float(factor),
        rates=rates,
        memory_error=float(np.abs(predicted / peaks - 1).max()),
        time_error=float(np.abs([rates.seconds(t) / s - 1 for t, s in zip(trains, seconds, strict=True)]).max()),
    )


def nonnegative_fit(columns: np.ndarray, wanted: np.ndarray | None = None) -> np.ndarray:
    """Least squares without negative coefficients: the most negative is set to zero until there is none.

    Args:
        columns: One row per observation.
        wanted: What the columns are to add up to; ones by default.
    """
    wanted = np.ones(len(columns)) if wanted is None else wanted
    scale = np.abs(columns).max(0)
    kept, found = list(range(columns.shape[1])), np.zeros(columns.shape[1])
    while kept:
        solved = np.linalg.lstsq(columns[:, kept] / scale[kept], wanted, rcond=None)[0]
        if solved.min() >= 0:
            found[kept] = solved / scale[kept]
            break
        kept.pop(int(solved.argmin()))
    return found


def save(calibration: Calibration, path: Path) -> None:
    """Keep a calibration for the plans to come."""
    write_text(path, json.dumps(encode(calibration), indent=1) + "\n")


def load(path: Path) -> Calibration | None:
    """The calibration kept there, or None where there is none or it is of another machine, thread count or torch.

    Raises:
        ConfigError: The file is no calibration.
    """
    if not path.exists():
        return None
    try:
        found = decode(Calibration, json.loads(path.read_text()))
    except (ValueError, ConfigError) as error:  # written by another version, or by another program
        raise ConfigError(
            f"{path} is no calibration of this version. Run `headrace plan --calibrate` again."
        ) from error
    return found if found.is_of_here() else None
