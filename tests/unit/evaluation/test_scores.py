"""Scores of examples, written and read back."""

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from headrace.errors import IntegrityError
from headrace.evaluation.scores import Example, columns, read_examples, write_examples

EXAMPLES = [
    Example(id="0-ab", scores={"acc": 1.0}, prompt="a\u2028b", choices=["x", "é"], target="x", prediction="é"),
    Example(id="1-cd", scores={"acc": 0.0}, weights={"acc": 3.0}, target="x", loglikelihoods=[-0.1, -2.5e-7]),
]


def test_examples_survive_their_file(tmp_path: Path) -> None:
    write_examples(tmp_path / "scores" / "task.parquet", EXAMPLES)
    assert read_examples(tmp_path / "scores" / "task.parquet") == EXAMPLES


def test_others_read_a_column_for_each_field(tmp_path: Path) -> None:
    write_examples(tmp_path / "a.parquet", EXAMPLES)
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet").flatten()
    assert table.column_names == [
        "id", "prompt", "choices", "target", "prediction", "loglikelihoods", "scores.acc", "weights.acc"
    ]  # fmt: skip
    assert table["scores.acc"].to_pylist() == [1.0, 0.0]
    assert table["weights.acc"].to_pylist() == [None, 3.0]


def test_equal_examples_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_examples(tmp_path / f"{name}.parquet", EXAMPLES)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_a_weight_that_is_absent_is_one() -> None:
    values, weights = columns(EXAMPLES, "acc")
    assert values.tolist() == [1.0, 0.0]
    assert weights.tolist() == [1.0, 3.0]


@pytest.mark.parametrize("damage", ["absent", "text", "cut short", "of something else"])
def test_scores_that_cannot_be_read_are_named(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "a.parquet"
    write_examples(file, EXAMPLES)
    if damage == "absent":
        file.unlink()
    elif damage == "of something else":
        pyarrow.parquet.write_table(pyarrow.table({"id": ["0"], "loss": [1.0]}), file)
    else:
        file.write_bytes(b"{" if damage == "text" else file.read_bytes()[:-9])
    with pytest.raises(IntegrityError, match=r"a\.parquet cannot be read as scores") as caught:
        read_examples(file)
    assert "\n" not in str(caught.value)
