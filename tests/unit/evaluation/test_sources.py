"""Evaluation files in the shapes they are handed on in, and broken in every way we refuse."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from headrace import buckets
from headrace.errors import ConfigError, DataError, HeadraceError
from headrace.evaluation.config import EvalConfig, TaskConfig
from headrace.evaluation.rows import split_context
from headrace.evaluation.sources import check_tasks, question, read_task, read_with, state, uris

PIQA = {"goal": "Open a jar", "sol1": "twist it", "sol2": "eat it"}
WINOGRANDE = {"sentence": "Ian ate because _ was hungry.", "option1": "Ian", "option2": "Dennis"}
HELLASWAG = {"activity_label": "Canoeing", "ctx": "A man sits. he", "endings": ["rows.", "flies."], "label": 1}


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_lambada_is_a_passage_or_a_passage_and_its_last_word(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", {"text": "It was a sign"}, {"context": "It was a", "continuation": " sign"})
    assert read_task("lambada_openai", [file]) == [{"text": "It was a sign"}] * 2


def test_hellaswag_context_is_cut_where_its_second_part_begins(tmp_path: Path) -> None:
    whole = {**HELLASWAG, "ctx_a": "A man sits.", "ctx_b": "he"}
    first, second = read_task("hellaswag", [write(tmp_path / "a.jsonl", HELLASWAG, whole)])
    assert first == second
    assert (first["ctx_a"], first["ctx_b"], first["endings"]) == ("A man sits.", "he", ["rows.", "flies."])
    assert (first["activity_label"], first["label"]) == ("Canoeing", "1")


@pytest.mark.parametrize(
    ("context", "parts"),
    [
        ("A man sits. He rows. the small boat", ("A man sits. He rows.", "the small boat")),
        (". a bald man", (".", "a bald man")),
        ("A man sits in a boat", ("A man sits in a boat", "")),
        ("A man sits. Then he rows.", ("A man sits. Then he rows.", "")),
        ("[header] How to row [title] Sit. row", ("[header] How to row [title] Sit. row", "")),
    ],
)
def test_only_a_lower_case_subject_at_the_end_is_a_second_part(context: str, parts: tuple[str, str]) -> None:
    assert split_context(context) == parts


def test_labels_may_lie_in_a_file_beside_the_rows(tmp_path: Path) -> None:
    piqa, winogrande = (write(tmp_path / f"{n}.jsonl", *[row] * 2) for n, row in (("p", PIQA), ("w", WINOGRANDE)))
    (tmp_path / "p-labels.lst").write_text("1\n0\n")
    (tmp_path / "w-labels.lst").write_text("2\n1\n")
    assert [row["label"] for row in read_task("piqa", [piqa])] == [1, 0]
    assert [row["answer"] for row in read_task("winogrande", [winogrande])] == ["2", "1"]
    assert read_with("piqa", piqa) == [str(tmp_path / "p-labels.lst")]
    assert read_with("hellaswag", piqa) == []


def test_several_files_are_one_task_and_blank_lines_are_nothing(tmp_path: Path) -> None:
    row = {"prompt": "Input: Norway Output:", "target": " krone", "country": "Norway"}
    files = [write(tmp_path / "a.jsonl", row, "\n"), write(tmp_path / "b.jsonl", row)]
    assert (
        read_task("exact_match", uris({"heldout": files}, "heldout"))
        == [{"prompt": "Input: Norway Output:", "target": "krone"}] * 2
    )


def test_equal_questions_are_equal_whatever_their_answers() -> None:
    assert question({**PIQA, "label": 0}) == question({**PIQA, "label": 1}) != question({**PIQA, "goal": "Close it"})


def test_data_that_was_not_given_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"'heldot'.*Did you mean 'heldout'"):
        uris({"heldout": "a", "text": "b"}, "heldot")


@pytest.mark.parametrize(
    ("kind", "rows", "words"),
    [
        ("piqa", [], ["empty"]),
        ("piqa", ["{broken\n"], ["a.jsonl:1", "JSON"]),
        ("piqa", ["[1]\n"], ["a.jsonl:1", "object"]),
        ("piqa", [PIQA], ["a-labels.lst", "cannot be opened"]),
        ("piqa", [{**PIQA, "label": 0}, PIQA], ["a.jsonl:2", "'label'"]),
        ("piqa", [{**PIQA, "label": 2}], ["label=2", "0 to 1"]),
        ("piqa", [{**PIQA, "label": True}], ["label=True"]),
        ("piqa", [{**PIQA, "label": 0, "goal": None}], ["goal=None"]),
        ("winogrande", [{**WINOGRANDE, "answer": "0"}], ["answer='0'", "1 to 2"]),
        ("winogrande", [{**WINOGRANDE, "answer": "1", "sentence": "no blank"}], ["'_'"]),
        ("hellaswag", [{**HELLASWAG, "label": -1}], ["label=-1", "0 to 1"]),
        ("hellaswag", [{**HELLASWAG, "label": ""}], ["label=''"]),
        ("hellaswag", [{**HELLASWAG, "endings": ["one"]}], ["endings"]),
        ("hellaswag", [{"label": 0, "endings": ["a", "b"]}], ["'ctx'"]),
        ("lambada_openai", [{"passage": "x"}], ["'text'"]),
        ("lambada_openai", [{"context": "x", "continuation": "two words"}], ["one word"]),
        ("exact_match", [{"prompt": "x"}], ["'target'"]),
        ("exact_match", [{"prompt": "x", "target": "  "}], ["target='  '"]),
    ],
)
def test_a_broken_file_is_one_line_that_says_where(
    tmp_path: Path, kind: str, rows: list[Any], words: list[str]
) -> None:
    with pytest.raises(DataError) as caught:
        read_task(kind, [write(tmp_path / "a.jsonl", *rows)])
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_one_that_is_not_utf8_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.jsonl cannot be opened"):
        read_task("piqa", [str(tmp_path / "absent.jsonl")])
    (tmp_path / "latin.jsonl").write_bytes('{"text": "café"}'.encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8: byte 13"):
        read_task("lambada_openai", [str(tmp_path / "latin.jsonl")])


def test_more_labels_than_rows_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a-labels.lst").write_text("1\n0\n")
    with pytest.raises(DataError, match="2 labels for the 1 rows"):
        read_task("piqa", [write(tmp_path / "a.jsonl", PIQA)])


def test_every_file_that_a_task_reads_is_checked(tmp_path: Path) -> None:
    good = write(tmp_path / "good.jsonl", {**PIQA, "label": 0})
    data = {"asked": good, "shown": write(tmp_path / "broken.jsonl", PIQA)}
    task = TaskConfig(kind="piqa", data="asked", num_fewshot=1, fewshot="shown")
    for tasks in ({"p": task}, {"p": dataclasses.replace(task, data="shown", fewshot="asked")}):
        with pytest.raises(DataError, match=r"broken-labels\.lst cannot be opened"):
            check_tasks(EvalConfig(tasks=tasks), data)
    check_tasks(EvalConfig(tasks={"p": dataclasses.replace(task, num_fewshot=0)}), data)
    check_tasks(EvalConfig(tasks={"p": task}), {**data, "shown": good})


def test_a_data_set_is_found_by_its_name_on_the_hub(tmp_path: Path) -> None:
    """A folder stands for the hub, as it does for `datasets`."""
    rows = [{**PIQA, "label": n} for n in (0, 1)]
    write(tmp_path / "validation.jsonl", *rows)
    named = f"hub:{tmp_path}:validation"
    assert [row["label"] for row in read_task("piqa", [named])] == [0, 1]
    before = state("piqa", named)
    write(tmp_path / "validation.jsonl", *rows, {**PIQA, "label": 0})
    assert before != state("piqa", named) == state("piqa", named)


def test_tasks_and_what_lies_beside_them_are_read_out_of_a_bucket(bucket: str, tmp_path: Path) -> None:
    raft = {"name": "t", "data_columns": ["Tweet", "ID"], "label_columns": {"Label": ["no", "yes"]}}
    files = {
        "valid.jsonl": json.dumps(PIQA) + "\n",
        "valid-labels.lst": "1\n",
        "t/task.json": json.dumps(raft),
        "t/train.csv": "Tweet,Label,ID\nIt turns.,yes,0\n",
        "prompt_construction_settings.jsonl": '{"t": ["Tweet"]}\n{"t": "Tell."}\n',
    }
    for name, text in files.items():
        buckets.write_bytes(f"{bucket}/{name}", text.encode())
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for kind, name, count in (("piqa", "valid.jsonl", 2), ("raft", "t/task.json", 3)):
        assert read_task(kind, [f"{bucket}/{name}"]) == read_task(kind, [str(tmp_path / name)])
        assert state(kind, f"{bucket}/{name}") == state(kind, str(tmp_path / name))
        assert len(state(kind, f"{bucket}/{name}")) == count
    with pytest.raises(HeadraceError, match=r"absent\.jsonl") as caught:
        read_task("piqa", [f"{bucket}/absent.jsonl"])
    assert "\n" not in str(caught.value)
