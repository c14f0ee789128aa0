import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.data.documents import read_documents
from headrace.data.quarantine import Quarantine

INSTRUCT = Path(__file__).parents[5] / "shared/data/instruct"
TASK = {
    "Definition": ["Name the capital. ", "Another wording."],
    "Positive Examples": [{"input": f"land {n}", "output": f"town {n}", "explanation": "so"} for n in range(3)],
    "Negative Examples": [{"input": "land x", "output": "river x"}],
    "Instances": [{"id": "a", "input": " France ", "output": ["Paris"]}, {"input": "Italy", "output": "Rome"}],
}
FILE = "task019_capitals.json"
EXAMPLES = ["Input: land 0\nOutput: town 0", "Input: land 1\nOutput: town 1", "Input: land 2\nOutput: town 2"]
WRONG = "Input: land x\nWrong output: river x"


def with_instances(*instances: Any, **changes: Any) -> dict[str, Any]:
    return {**TASK, "Instances": list(instances), **changes}


@pytest.mark.parametrize(
    ("shown", "examples"),
    [
        ({}, EXAMPLES[:2]),
        ({"positive_examples": 0}, []),
        ({"positive_examples": 1, "negative_examples": 2}, [EXAMPLES[0], WRONG]),
        ({"positive_examples": 9}, EXAMPLES),
    ],
)
def test_an_instance_is_asked_after_the_definition_and_examples(
    shown: dict[str, int], examples: list[str], read: Callable
) -> None:
    documents, faults = read(FILE, TASK, source="natural_instructions", **shown)
    opening = "\n\n".join(["Name the capital.", *examples])
    assert [(found.prompt, found.target, found.line) for found in documents] == [
        (f"{opening}\n\nInput: France\nOutput:", " Paris", 1),
        (f"{opening}\n\nInput: Italy\nOutput:", " Rome", 2),
    ]
    assert faults == []
    assert {found.source for found in documents} == {"natural_instructions/task019"}


def test_a_task_is_known_by_its_folder_where_files_are_named_after_splits(read: Callable) -> None:
    assert read("task363_sst2/train.json", TASK, source="ni")[0][0].source == "ni/task363"


def test_an_instance_without_input_has_no_input_line(read: Callable) -> None:
    (found,), _ = read(FILE, with_instances({"input": "", "output": "Paris"}), positive_examples=0)
    assert (found.prompt, found.target) == ("Name the capital.\n\nOutput:", " Paris")


def test_of_several_outputs_each_is_drawn_and_the_draw_does_not_move_with_the_file(read: Callable) -> None:
    task = with_instances(*[{"input": str(n), "output": ["a", " ", "b", "c"]} for n in range(300)])
    drawn = [found.target for found in read(FILE, task)[0]]
    assert [found.target for found in read(f"elsewhere/{FILE}", task)[0]] == drawn
    assert [found.target for found in read("task020_other.json", task)[0]] != drawn
    assert all(70 < drawn.count(target) < 130 for target in (" a", " b", " c"))


def test_instances_that_are_none_are_faults_and_the_others_are_read(read: Callable) -> None:
    broken = [
        7,
        {"output": "x"},
        {"input": "x"},
        {"input": "x", "output": []},
        {"input": "x", "output": " "},
        {"input": "x", "output": [3]},
        {"input": 3, "output": "x"},
    ]
    documents, faults = read(FILE, with_instances(*broken, {"input": "x", "output": "y"}))
    assert [found.line for found in documents] == [8]
    assert faults == [
        "1 is a JSON int, not an instance",
        "2 has no 'input'",
        "3 has no 'output'",
        "4 has an empty 'output'",
        "5 has an empty 'output'",
        "6 has an 'output' that is no text or list of texts",
        "7 has a 'input' of type int, not text",
    ]


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (with_instances(), "0 has no instances"),
        ({"Definition": ["a"]}, "0 has no 'Instances'"),
        (with_instances(Definition=[]), "0 has a 'Definition' of type list, not text"),
        (with_instances(Definition=[" "]), "0 has an empty 'Definition'"),
        ({**TASK, "Positive Examples": [3, 4]}, "0 has 'Positive Examples' that are no list of objects"),
        ({**TASK, "Positive Examples": [{"input": "a"}]}, "0 has no 'output'"),
        ([TASK], "0 is a JSON list, not a Natural-Instructions task"),
        ('{"Definition": ["a"', "0 is broken JSON (unexpected end of data: line 1 column 20 (char 19))"),
    ],
)
def test_a_task_that_is_none_is_one_fault_of_the_whole_file(task: Any, reason: str, read: Callable) -> None:
    assert read(FILE, task) == ([], [reason])


def test_the_hubs_records_are_asked_without_examples(read: Callable) -> None:
    record = {"task_name": "task019_capitals", "definition": "Name it.", "inputs": "France", "targets": "Paris"}
    (found,), faults = read("rows.jsonl", [record], source="ni")
    assert (found.source, found.prompt, found.target) == ("ni/task019", "Name it.\n\nInput: France\nOutput:", " Paris")
    assert faults == []


@pytest.mark.skipif(not INSTRUCT.exists(), reason="needs the data sets in ../shared, which are not redistributed")
def test_real_tasks_are_read_whole_but_for_those_without_an_output() -> None:
    quarantine = Quarantine(1.0)
    files = [*INSTRUCT.glob("ni_tasks*/**/*.json"), *INSTRUCT.glob("superni_sapt/*/*.json")]
    for file in files:
        tasks = [found.target for found in read_documents(str(file), source="ni", quarantine=quarantine)]
        instances = json.loads(file.read_text())["Instances"]
        outputs = [[given] if isinstance(given := row["output"], str) else given for row in instances]
        wanted = [{f" {output.strip()}" for output in given} for given in outputs if "".join(given).strip()]
        assert len(tasks) == len(wanted)
        assert all(target in choices for target, choices in zip(tasks, wanted, strict=True))
    assert len(files) == 21
    assert {fault.reason for fault in quarantine.faults} == {"has an empty 'output'"}
    assert len(quarantine.faults) == 6
