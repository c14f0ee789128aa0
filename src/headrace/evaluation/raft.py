"""RAFT: few-shot classification as in the real world, 50 labelled rows a task.

A task is a folder of `train.csv` and `task.json`, which lists its labels; either names it. Which columns a prompt
shows, in which order, and what it begins with is in `prompt_construction_settings.jsonl` beside or above the
folder. A prompt is the instructions, solved rows and the row asked about, apart by blank lines:

    Sentence: No regional side effects were noted.
    Label: not ADE-related

Source: Alex et al. 2021, RAFT: A Real-World Few-Shot Text Classification Benchmark, arXiv:2109.14076 (data and
settings); Liang et al. 2022, HELM, arXiv:2211.09110 (the prompt), by which GPT-JT was judged.
"""

import csv
import io
from typing import Any

from headrace.data.companions import TASK_FILE, beside, rows_file, settings_file
from headrace.errors import DataError
from headrace.evaluation.files import parse_object, read_text
from headrace.evaluation.rows import ID, Row

LABEL, ROW_ID = "Label", "ID"


def read_raft(uri: str) -> list[Row]:
    """Read the labelled rows of a task: `instructions`, `prompt`, `choices`, `label` and `target`.

    Raises:
        DataError: A file is missing or of another schema, or a label is none of the task's.
    """
    task = parse_object(read_text(beside(uri, TASK_FILE)), beside(uri, TASK_FILE))
    labels = (task.get("label_columns") or {}).get(LABEL)
    if not isinstance(labels, list) or not labels:
        raise DataError(f"{beside(uri, TASK_FILE)} lists no labels. Give RAFT's own task.json.")
    columns, instructions = _settings(uri, task)
    file = rows_file(uri)
    rows = csv.DictReader(io.StringIO(read_text(file), newline=""))
    return [_row(row, f"{file} row {n}", columns, labels, instructions) for n, row in enumerate(rows, start=1)]


def _row(row: dict[str, Any], where: str, columns: list[str], labels: list[str], instructions: str) -> Row:
    for column in (*columns, LABEL):
        if row.get(column) is None:
            raise DataError(f"{where} has no {column!r}. Give the labelled rows of this task.")
    if row[LABEL] not in labels:
        known = ", ".join(map(repr, labels[:4]))
        raise DataError(f"{where} has {LABEL}={row[LABEL]!r}, and the choices are {known}… Correct the label.")
    asked = "\n".join(f"{column}: {row[column].strip()}" for column in columns)
    named = {ID: row[ROW_ID]} if row.get(ROW_ID) else {}
    answer = {"choices": labels, "label": labels.index(row[LABEL]), "target": row[LABEL]}
    return {**named, "instructions": instructions, "prompt": f"{asked}\n{LABEL}:", **answer}


def _settings(uri: str, task: dict[str, Any]) -> tuple[list[str], str]:
    """Columns that a prompt shows, and what it begins with; all columns and nothing where nobody says."""
    name, file = str(task.get("name")), settings_file(uri)
    lines = read_text(file).splitlines() if file else []
    columns, instructions = (parse_object(line, str(file)).get(name) for line in (*lines, "{}", "{}")[:2])
    columns = columns or [column for column in task.get("data_columns", []) if column != ROW_ID]
    if not columns:
        raise DataError(f"{beside(uri, TASK_FILE)} names no columns to show. Give RAFT's own task.json.")
    return columns, f"{instructions}\n\n" if instructions else ""
