"""Scores of single examples: one JSON object a line, `scores/TASK.jsonl` in a report."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.artifacts import Metric
from headrace.config import decode, encode
from headrace.errors import IntegrityError

FOLDER = "scores"


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


def write_examples(path: Path, examples: Sequence[Example]) -> None:
    """Write examples in order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(encode(example), ensure_ascii=False, sort_keys=True) for example in examples)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_examples(path: Path) -> list[Example]:
    """Read what `write_examples` wrote.

    Raises:
        IntegrityError: The file is missing or is none of ours.
    """
    try:
        lines: list[Any] = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path} cannot be read as scores ({error}). Run the evaluation again.") from error
    return [decode(Example, line) for line in lines]


def columns(examples: Sequence[Example], metric: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Scores and weights of one metric, each of shape (N,)."""
    values_N = np.array([example.scores[metric] for example in examples], np.float64)
    weights_N = np.array([example.weights.get(metric, 1.0) for example in examples], np.float64)
    return values_N, weights_N
