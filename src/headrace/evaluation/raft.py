"""RAFT: few-shot classification as in the real world, 50 labelled rows a task.

A task is a folder of `train.csv` and `task.json`, which lists its labels; either names it. On the hub it is a
configuration of `ought/raft`, whose column `Label` names its labels; they are given in its split `train`. Which
columns a prompt shows, in which order, and what it begins with is in `prompt_construction_settings.jsonl` beside or
above the folder; without it, and so on the hub, all are shown after no instructions. A prompt is the instructions
with the labels to choose from, solved rows and the row asked about, apart by blank lines; a column that is empty in
a row is left out of it:

    Tell whether the note is about the wheel.
    Possible labels:
    1. of the wheel
    2. of something else

    Note: It turns again.
    Label: of the wheel

    Note: Grain is dear.
    Label:

The label itself is asked for, not its number, greedily and to the end of the line. This is the form in which GPT-JT's
model card shows a task of RAFT, and that of the two benchmarks.

Source: Alex et al. 2021, RAFT: A Real-World Few-Shot Text Classification Benchmark, arXiv:2109.14076, and its code
oughtinc/raft-baselines (data, settings, prompt of the GPT-3 baseline); Liang et al. 2022, HELM, arXiv:2211.09110
(labels generated in 30 tokens, greedily, to the end of the line, exact match; 5 solved rows of 10, 40 asked about);
the widget "Tweet Eval Hate" of https://huggingface.co/togethercomputer/GPT-JT-6B-v1.
"""

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

from headrace.data import hub
from headrace.data.companions import TASK_FILE, beside, rows_file, settings_file
from headrace.errors import DataError
from headrace.evaluation.files import parse_object, read_text
from headrace.evaluation.rows import ID, Row

LABEL, ROW_ID = "Label", "ID"
UNLABELLED = "Unlabeled"
"""The first of the hub's labels, which stands for none."""


class Task(NamedTuple):
    """One task, wherever it was found."""

    place: str
    columns: Sequence[str]
    """Those that a prompt shows, in their order."""
    labels: Sequence[str]
    instructions: Sequence[str]
    rows: Sequence[dict[str, Any]]
    """Texts by column, `Label` among them."""


def read_raft(uri: str) -> list[Row]:
    """Read the labelled rows of a task: `instructions`, `prompt`, `choices`, `label` and `target`.

    Raises:
        DataError: A file is missing or of another schema, or a label is none of the task's.
    """
    task = _on_hub(uri) if hub.is_hub(uri) else _in_folder(uri)
    numbered = (f"{n}. {label}" for n, label in enumerate(task.labels, 1))
    opening = "\n".join([*task.instructions, "Possible labels:", *numbered]) + "\n\n"
    return [_row(row, f"{task.place} row {n}", task, opening) for n, row in enumerate(task.rows, start=1)]


def _in_folder(uri: str) -> Task:
    task = parse_object(read_text(beside(uri, TASK_FILE)), beside(uri, TASK_FILE))
    labels = (task.get("label_columns") or {}).get(LABEL)
    if not isinstance(labels, list) or not labels:
        raise DataError(f"{beside(uri, TASK_FILE)} lists no labels. Give RAFT's own task.json.")
    columns, instructions = _settings(uri, task)
    file = rows_file(uri)
    rows = list(csv.DictReader(io.StringIO(read_text(file), newline="")))
    return Task(file, columns, labels, instructions, rows)


def _on_hub(uri: str) -> Task:
    """Labels are numbers there, and a text that is empty may be missing."""
    classes = hub.columns(uri)
    names = classes.get(LABEL, [])
    labels = [name for name in names if name != UNLABELLED]
    if not labels:
        raise DataError(
            f"{uri} has no column {LABEL!r} that names its labels. Give a task of RAFT: hub:ought/raft/TASK."
        )
    shown = [column for column in classes if column not in (LABEL, ROW_ID)]
    return Task(uri, shown, labels, [], [_texts(row, names) for row in hub.rows(uri)])


def _texts(row: dict[str, Any], names: Sequence[str]) -> dict[str, str]:
    """A row of the hub as a file has it."""
    number = -1 if row[LABEL] is None else row[LABEL]  # as `datasets` has it, -1 is no class
    texts = {column: "" if value is None else str(value) for column, value in row.items()}
    return {**texts, LABEL: UNLABELLED if number < 0 else names[number]}


def _row(row: dict[str, Any], where: str, task: Task, opening: str) -> Row:
    for column in (*task.columns, LABEL):
        if row.get(column) is None:
            raise DataError(f"{where} has no {column!r}. Give the labelled rows of this task.")
    if row[LABEL] not in task.labels:
        known = ", ".join(map(repr, task.labels[:4]))
        raise DataError(f"{where} has {LABEL}={row[LABEL]!r}, and the choices are {known}… Correct the label.")
    asked = "\n".join(f"{column}: {row[column]}" for column in task.columns if row[column].strip())
    named = {ID: row[ROW_ID]} if row.get(ROW_ID) else {}
    answer = {"choices": list(task.labels), "label": task.labels.index(row[LABEL]), "target": row[LABEL]}
    return {**named, "instructions": opening, "prompt": f"{asked}\n{LABEL}:", **answer}


def _settings(uri: str, task: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Columns that a prompt shows, and the instructions that it begins with; all and none where nobody says."""
    name, file = str(task.get("name")), settings_file(uri)
    lines = read_text(file).splitlines() if file else []
    columns, instructions = (parse_object(line, str(file)).get(name) for line in (*lines, "{}", "{}")[:2])
    columns = columns or [column for column in task.get("data_columns", []) if column != ROW_ID]
    if not columns:
        raise DataError(f"{beside(uri, TASK_FILE)} names no columns to show. Give RAFT's own task.json.")
    return columns, [instructions] if instructions else []
