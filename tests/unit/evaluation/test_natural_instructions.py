"""Held-out tasks of Natural-Instructions: prompts as in training, ROUGE-L against an implementation of its own."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from nltk.stem.porter import PorterStemmer

from headrace.data.documents import read_documents
from headrace.data.formats.document import Origin
from headrace.data.formats.natural_instructions import read
from headrace.data.tokenizer import TextTokenizer
from headrace.errors import DataError
from headrace.evaluation.config import TaskConfig
from headrace.evaluation.natural_instructions import read_instances, score
from headrace.evaluation.sources import read_task
from headrace.evaluation.tasks import HeadraceLM, run_task
from headrace.models.gptj import GPTJ

TASK = {
    "Definition": ["Name the currency."],
    "Positive Examples": [{"input": "Norway", "output": "krone"}],
    "Instances": [
        {"id": "task9-a", "input": "Malta", "output": ["Euro", "the euro"]},
        {"id": "task9-b", "input": "Oman", "output": ["rial"]},
    ],
}
WORDS = ["wheels", "wheel", "turning", "turned", "carries", "river", "The", "the", "a"]


def write(folder: Path, task: Any) -> str:
    (folder / "task009_money.json").write_text(json.dumps(task))
    return str(folder / "task009_money.json")


def lay_out(folder: Path, *rows: dict[str, Any]) -> str:
    """A split as the hub has Natural-Instructions."""
    (folder / "hub").mkdir()
    (folder / "hub" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"hub:{folder}/hub:test"


def hub_row(name: str | None, asked: str, answer: str) -> dict[str, Any]:
    held = {"definition": "Name the currency.", "inputs": asked, "targets": answer}
    return {"task_name": "task009_money", "id": name, **held}


def common_words(one: list[str], other: list[str]) -> int:
    """Length of the longest common subsequence, by its definition."""
    if not one or not other:
        return 0
    if one[0] == other[0]:
        return 1 + common_words(one[1:], other[1:])
    return max(common_words(one[1:], other), common_words(one, other[1:]))


def rouge_l(answer: str, reference: str) -> float:
    """F-measure of the longest common subsequence of stems; words of three letters or fewer are not stemmed."""
    stem = PorterStemmer().stem
    one, other = ([stem(w) if len(w) > 3 else w for w in text.lower().split()] for text in (answer, reference))
    same = common_words(one, other)
    return 2 * same / (len(one) + len(other)) if same else 0.0


def test_rouge_l_is_the_longest_common_subsequence_of_stems() -> None:
    draw = random.Random(0)
    for _ in range(60):
        answer, *references = (" ".join(draw.choices(WORDS, k=draw.randint(0 if n else 1, 6))) or "x" for n in range(3))
        expected = max(rouge_l(answer, reference) for reference in references)
        assert score(answer, references)["rouge_l"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "matches"), [("euro.", 1), (" The  Euro", 1), ("euros", 0), ("", 0), ("Euro the", 0)]
)
def test_an_answer_matches_any_reference_but_for_case_and_punctuation(answer: str, matches: int) -> None:
    assert score(answer, ["Euro", "the euro"])["exact_match"] == matches


def test_prompts_are_those_of_training(tmp_path: Path) -> None:
    file = write(tmp_path, TASK)
    rows = read_instances(file)
    assert [row["prompt"] for row in rows] == [document.prompt for document in read(Origin(file))]
    assert rows[0]["prompt"] == "Name the currency.\n\nInput: Norway\nOutput: krone\n\nInput: Malta\nOutput:"
    assert (rows[0]["id"], rows[0]["references"]) == ("task9-a", ["Euro", "the euro"])


def test_rows_of_the_hub_are_instances_with_all_their_outputs(tmp_path: Path) -> None:
    named = lay_out(
        tmp_path, hub_row("9-a", "Malta", "Euro"), hub_row("9-b", "Oman", "rial"), hub_row("9-a", "Malta", "the euro"),
        hub_row(None, "Malta", "lira"), hub_row(None, "Malta", "scudo"), hub_row("9-a", "Crete", "drachma"),
    )  # fmt: skip
    rows = read_task("natural_instructions", [named])
    assert [(row.get("id"), row["target"], row["references"]) for row in rows] == [
        ("9-a", "Euro", ["Euro", "the euro"]),
        ("9-b", "rial", ["rial"]),
        (None, "lira", ["lira"]),
        (None, "scudo", ["scudo"]),
        ("9-a", "drachma", ["drachma"]),
    ]
    assert rows[0]["prompt"] == "Name the currency.\n\nInput: Malta\nOutput:"
    trained_on = [document.prompt for document in read_documents(named, source="ni")]
    assert [trained_on[n] for n in (0, 1, 3, 4, 5)] == [row["prompt"] for row in rows]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"definition": "x", "targets": "y"}, ["row 1", "no 'inputs'"]),
        ({"definition": "x", "inputs": "", "targets": " "}, ["row 1", "empty 'targets'"]),
        ({"text": "x"}, ["row 1", "no 'definition'", "Natural-Instructions"]),
    ],
)
def test_rows_of_the_hub_that_are_no_instances_are_refused_in_one_line(
    tmp_path: Path, row: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(DataError) as caught:
        read_task("natural_instructions", [lay_out(tmp_path, row)])
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


def test_answers_are_held_against_all_references(tmp_path: Path, model: GPTJ, tokenizer: TextTokenizer) -> None:
    said = HeadraceLM(model, tokenizer, "prefix")
    file = write(tmp_path, TASK)
    config = TaskConfig(kind="natural_instructions", data="money", max_gen_tokens=6)
    before = run_task(said, "money", config, {"money": file})
    answer = before.examples[0].prediction
    assert answer
    (tmp_path / "b").mkdir()
    changed = {**TASK, "Instances": [{**TASK["Instances"][0], "output": ["zzz", answer]}, TASK["Instances"][1]]}
    after = run_task(said, "money", config, {"money": write(tmp_path / "b", changed)})
    assert after.examples[0].scores["exact_match"] == 1 > before.examples[0].scores["exact_match"]
    assert set(after.metrics) == {"exact_match", "rouge_l"}


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ([1], ["not an object"]),
        ({"Definition": ["x"]}, ["no 'Instances'"]),
        ({**TASK, "Instances": [{"input": "a", "output": []}]}, ["instance 1", "empty 'output'"]),
    ],
)
def test_what_is_no_task_file_is_refused_in_one_line(tmp_path: Path, task: Any, words: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        read_instances(write(tmp_path, task))
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)
