"""Answers counted by hand."""

import pytest

from headrace.evaluation.config import EvalConfig, TaskConfig
from headrace.evaluation.confusion import OTHER, Confusion, confuse, first
from headrace.evaluation.scores import Example


def answered(target: str, prediction: str | None, choices: list[str] | None = None) -> Example:
    return Example(id="0", scores={}, target=target, prediction=prediction, choices=choices)


def test_labels_that_are_generated_are_counted_and_all_else_is_other() -> None:
    pairs = [("yes", "yes"), ("yes", "no"), ("no", "no"), ("no", "maybe"), ("no", None)]
    found = confuse("raft", [answered(*pair) for pair in pairs])
    assert found == Confusion(["no", "yes", OTHER], [[1, 0, 2], [1, 1, 0], [0, 0, 0]])


def test_choices_that_are_always_the_same_are_labels() -> None:
    choices = [" yes", " no"]
    found = confuse("raft_likelihood", [answered(" yes", " no", choices), answered(" no", " no", choices)])
    assert found == Confusion(["no", "yes"], [[1, 0], [1, 0]])


def test_choices_that_differ_are_told_by_their_places() -> None:
    examples = [answered("b", "a", ["a", "b"]), answered("c", "c", ["c", "d"])]
    assert confuse("piqa", examples) == Confusion(["choice 1", "choice 2"], [[1, 0], [1, 0]])


@pytest.mark.parametrize(
    ("kind", "examples"),
    [
        ("exact_match", [answered("a", "b")]),
        ("lambada_openai", [answered("a", None)]),
        ("raft", [answered(str(n), str(n)) for n in range(30)]),
    ],
)
def test_answers_that_are_free_or_of_too_many_kinds_are_not_counted(kind: str, examples: list[Example]) -> None:
    assert confuse(kind, examples) is None


def test_a_classification_task_is_shown_before_others() -> None:
    tasks = {name: TaskConfig(kind=kind, data="x") for name, kind in (("p", "piqa"), ("r", "raft"))}
    one, other = Confusion(["a"], [[1]]), Confusion(["b"], [[2]])
    assert first(EvalConfig(tasks=tasks), {"p": one, "r": other}) == other
    assert first(EvalConfig(tasks=tasks), {"p": one}) == one
    assert first(EvalConfig(tasks=tasks), {}) is None
