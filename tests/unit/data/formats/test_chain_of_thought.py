import json
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.data.documents import read_documents

INSTRUCT = Path(__file__).parents[5] / "shared/data/instruct"
SKIPPED = pytest.mark.skipif(
    not INSTRUCT.exists(), reason="needs the data sets in ../shared, which are not redistributed"
)
STEPS = "A: Let's think step by step."
ANATOMY = (
    f"\nAbout anatomy.\n\nQ: Which cavity?\n(A) one (B) two\n{STEPS} It is two.\n\nBy a rule. The answer is (B).\n\n"
    f"Q: Which bone?\n(A) one (B) two\n{STEPS} The answer is (A)."
)


def test_each_question_of_a_subject_is_an_instruction(read: Callable) -> None:
    documents, faults = read("mmlu-cot.json", {"anatomy": ANATOMY, "law": f"Law.\n\nQ: Who?\n{STEPS} I."}, source="cot")
    assert [(found.source, found.prompt, found.target, found.line) for found in documents] == [
        (
            "cot/anatomy",
            f"About anatomy.\n\nQ: Which cavity?\n(A) one (B) two\n{STEPS}",
            " It is two.\n\nBy a rule. The answer is (B).",
            1,
        ),
        ("cot/anatomy", f"About anatomy.\n\nQ: Which bone?\n(A) one (B) two\n{STEPS}", " The answer is (A).", 2),
        ("cot/law", f"Law.\n\nQ: Who?\n{STEPS}", " I.", 3),
    ]
    assert faults == []


def test_subjects_without_reasoning_are_faults_and_the_others_are_read(read: Callable) -> None:
    subjects = {"a": 7, "b": "Heading alone.", "c": f"C.\n\nQ: One?\n{STEPS}\n\nQ: Two?\n{STEPS} Yes."}
    documents, faults = read("mmlu-cot.json", subjects, format="mmlu_cot")
    assert [(found.source, found.line) for found in documents] == [("c", 4)]
    assert [fault.rpartition(" ")[2] for fault in faults] == ["'a'", "'b'", "'c'"]
    assert [fault[0] for fault in faults] == ["1", "2", "3"]
    assert read("mmlu-cot.json", ["a"], format="mmlu_cot")[1] == ["0 is a JSON list, not an object of subjects"]


def test_flans_lines_become_reasoning_and_answer(read: Callable) -> None:
    lines = "Is it so?\\nOptions:\\n- yes\\n- no\tno\tIt is not.\nHow many?\t7\tThree and four.\n"
    documents, faults = read("creak_train.tsv", lines, source="cot")
    assert [(found.source, found.prompt, found.target, found.line) for found in documents] == [
        ("cot/creak", f"Q: Is it so?\nOptions:\n- yes\n- no\n{STEPS}", " It is not. The answer is no.", 1),
        ("cot/creak", f"Q: How many?\n{STEPS}", " Three and four. The answer is 7.", 2),
    ]
    assert faults == []


def test_lines_with_a_field_too_few_or_empty_are_faults(read: Callable, tmp_path: Path) -> None:
    documents, faults = read("gsm8k.tsv", "a\tb\n\na\tb\tc\td\na\t\tc\na\tb\tc\n\n", source="cot")
    assert [(found.source, found.line) for found in documents] == [("cot/gsm8k", 5)]
    assert faults == [
        "1 has 2 tab-separated fields, not 3 (question, answer, reasoning)",
        "2 is blank",
        "3 has 4 tab-separated fields, not 3 (question, answer, reasoning)",
        "4 has an empty 'answer'",
    ]


@SKIPPED
def test_every_worked_question_of_mmlu_is_found() -> None:
    file = INSTRUCT / "mmlu_cot/mmlu-cot.json"
    found = list(read_documents(str(file), source="cot"))
    texts = json.loads(file.read_text())
    assert len(found) == sum(text.count("Let's think step by step.") for text in texts.values()) == 282
    assert {document.source for document in found} == {f"cot/{subject}" for subject in texts}
    for subject, text in texts.items():
        heading = text.strip().partition("\n\n")[0] + "\n\n"
        own = [document for document in found if document.source == f"cot/{subject}"]
        rebuilt = "\n\n".join((document.prompt + document.target).removeprefix(heading) for document in own)
        assert rebuilt == text.strip().removeprefix(heading).strip()


@SKIPPED
def test_every_line_of_flans_files_is_found() -> None:
    for file in (INSTRUCT / "flan_cot").glob("*.tsv"):
        lines = [line.split("\t") for line in file.read_text().removesuffix("\n").split("\n")]
        found = list(read_documents(str(file), source="cot"))
        assert [document.target for document in found] == [
            f" {reasoning.strip()} The answer is {answer.strip()}." for _, answer, reasoning in lines
        ]
        assert not any("\\n" in document.prompt for document in found)
