"""Scores of single examples: one row each of `scores/TASK.parquet` in a report.

`scores` and `weights` are structs with a field for each metric, as in `SELECT avg(scores.acc) FROM 'piqa.parquet'`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.artifacts import Metric
from headrace.config import decode, encode
from headrace.errors import HeadraceError, IntegrityError, shown

FOLDER = "scores"
STRUCTS = ("scores", "weights")


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """What a model made of one example."""

    id: str
    """Place in the file and a hash of the content: equal ids are equal examples."""
    scores: dict[str, float]
    """By metric, higher being better; log-likelihoods in nats where the metric is a perplexity."""
    weights: dict[str, float] = field(default_factory=dict)
    """What a score is divided by when scores are averaged, by metric, such as tokens; 1 where absent."""
    prompt: str = ""
    choices: list[str] | None = None
    """Continuations of the prompt to choose from; None where the answer is free."""
    target: str = ""
    prediction: str | None = None
    """What the model answered; None where only the target was scored and was not the likeliest."""
    loglikelihoods: list[float] = field(default_factory=list)
    """Nats, of each choice, or of the target alone."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one task measured."""

    metrics: dict[str, Metric]
    """By name, such as `acc_norm`."""
    examples: list[Example]


def score_file(report: Path, task: str) -> Path:
    """Where a report has the examples of a task."""
    return report / FOLDER / f"{task}.parquet"


def write_examples(path: Path, examples: Sequence[Example]) -> None:
    """Write examples in order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    text, number = pa.string(), pa.float64()
    plain = {"id": text, "prompt": text, "choices": pa.list_(text), "target": text, "prediction": text}
    structs = {name: sorted({key for e in examples for key in getattr(e, name)}) for name in STRUCTS}
    # Parquet has no struct without fields: no weights, no column.
    fields = {name: pa.struct([(key, number) for key in keys]) for name, keys in structs.items() if keys}
    schema = pa.schema(plain | {"loglikelihoods": pa.list_(number)} | fields)
    pq.write_table(pa.Table.from_pylist([encode(example) for example in examples], schema), path)


def read_examples(path: Path) -> list[Example]:
    """Read what `write_examples` wrote.

    Raises:
        IntegrityError: The file is missing or is none of ours.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as file:
            rows = pq.ParquetFile(file).read().to_pylist()
        return [decode(Example, _without_gaps(row)) for row in rows]
    except (OSError, pa.ArrowException, HeadraceError) as error:
        reason = shown(str(error))
        raise IntegrityError(f"{path} cannot be read as scores ({reason}). Run the evaluation again.") from error


def _without_gaps(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose structs hold only what its example had."""
    kept = {name: {key: value for key, value in (row.get(name) or {}).items() if value is not None} for name in STRUCTS}
    return row | kept


def columns(examples: Sequence[Example], metric: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Scores and weights of one metric, each of shape (N,)."""
    values_N = np.array([example.scores[metric] for example in examples], np.float64)
    weights_N = np.array([example.weights.get(metric, 1.0) for example in examples], np.float64)
    return values_N, weights_N
