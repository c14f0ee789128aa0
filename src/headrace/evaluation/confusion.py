"""Answers counted by what was right: which label a model gives instead of another, or which place it prefers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headrace.evaluation.config import RAFT, EvalConfig
from headrace.evaluation.scores import Example

OTHER = "(other)"
"""What is answered beyond the labels."""
MOST_LABELS = 20
GENERATED = RAFT[0]


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often each label was answered where each was right."""

    labels: list[str]
    counts: list[list[int]]
    """Rows by what was right, columns by what was answered."""


def confuse(kind: str, examples: Sequence[Example]) -> Confusion | None:
    """Count a task's answers, by their labels, or by their places where each example has choices of its own.

    Returns:
        None where answers are free, or there are too many labels to be read.
    """
    if kind == GENERATED:
        counted = _generated(examples)
    elif all(one.choices and one.prediction is not None for one in examples):
        counted = _chosen(examples)
    else:
        return None
    seen = {label for pair in counted for label in pair}
    labels = [*sorted(seen - {OTHER}), *({OTHER} & seen)]
    if len(labels) > MOST_LABELS:
        return None
    return Confusion(labels, [[counted[right, said] for said in labels] for right in labels])


def first(config: EvalConfig, found: Mapping[str, Confusion]) -> Confusion | None:
    """The one to show where there is room for one: of the first classification task, or else the first of all."""
    labelled = [name for name, task in config.tasks.items() if task.kind in RAFT and name in found]
    return next((found[name] for name in [*labelled, *found]), None)


def _generated(examples: Sequence[Example]) -> Counter[tuple[str, str]]:
    labels = {one.target for one in examples}
    return Counter((one.target, str(one.prediction) if one.prediction in labels else OTHER) for one in examples)


def _chosen(examples: Sequence[Example]) -> Counter[tuple[str, str]]:
    alike = len({tuple(one.choices or ()) for one in examples}) == 1

    def name(one: Example, choice: str) -> str:
        return choice.strip() if alike else f"choice {(one.choices or []).index(choice) + 1}"

    return Counter((name(one, one.target), name(one, str(one.prediction))) for one in examples)
