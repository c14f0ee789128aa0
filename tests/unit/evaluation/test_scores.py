"""Scores of examples, written and read back."""

from pathlib import Path

import pytest

from headrace.errors import IntegrityError
from headrace.evaluation.scores import Example, columns, read_examples, write_examples

EXAMPLES = [
    Example(id="0-ab", scores={"acc": 1.0}, prompt="a\u2028b", choices=["x", "é"], target="x", prediction="é"),
    Example(id="1-cd", scores={"acc": 0.0}, weights={"acc": 3.0}, target="x", loglikelihoods=[-0.1, -2.5e-7]),
]


def test_examples_survive_their_file(tmp_path: Path) -> None:
    write_examples(tmp_path / "scores" / "task.jsonl", EXAMPLES)
    assert read_examples(tmp_path / "scores" / "task.jsonl") == EXAMPLES
    assert len((tmp_path / "scores" / "task.jsonl").read_bytes().splitlines()) == 2


def test_a_weight_that_is_absent_is_one() -> None:
    values, weights = columns(EXAMPLES, "acc")
    assert values.tolist() == [1.0, 0.0]
    assert weights.tolist() == [1.0, 3.0]


@pytest.mark.parametrize("text", [None, "{"])
def test_scores_that_cannot_be_read_are_named(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(IntegrityError, match=r"a\.jsonl cannot be read as scores"):
        read_examples(tmp_path / "a.jsonl")
