"""Evaluation data as it is found: local files, objects in a bucket, data sets on a hub by name.

Data sets are handed on in several shapes: labels in a file of their own, a context not yet cut into its
two parts. What a row must hold is checked, so that a broken file is one line and not a traceback.
"""

import json
from collections.abc import Mapping, Sequence

from headrace.config import nearest
from headrace.data import hub
from headrace.data.companions import is_file, label_file, raft_files
from headrace.data.references import fingerprint
from headrace.errors import ConfigError, DataError
from headrace.evaluation import raft
from headrace.evaluation.config import NATURAL_INSTRUCTIONS, RAFT, EvalConfig
from headrace.evaluation.files import parse_object, read_text
from headrace.evaluation.natural_instructions import read_instances
from headrace.evaluation.rows import ADAPTERS, ID, Row

Data = Mapping[str, str | Sequence[str]]
"""Files, `gs://` objects or `hub:NAME[/CONFIG][:SPLIT]` by name; a name may stand for several."""
ANSWERS = ("label", "answer", "target", "references")
"""Fields that say what is right; the others are the question."""
LABELS = {"piqa": "label", "winogrande": "answer"}
"""Fields that may lie in a file of their own, by kind."""
READERS = {NATURAL_INSTRUCTIONS: read_instances, **dict.fromkeys(RAFT, raft.read_raft)}
"""Kinds that come in a format of their own."""


def uris(data: Data, name: str) -> list[str]:
    """The files behind a name.

    Raises:
        ConfigError: No such data was given.
    """
    if name not in data:
        raise ConfigError(f"There is no data {name!r} to evaluate on. {nearest(name, data)}")
    found = data[name]
    return [found] if isinstance(found, str) else list(found)


def read_task(kind: str, files: Sequence[str]) -> list[Row]:
    """Read and check the rows of one task, in the harness's fields.

    Raises:
        DataError: A file that is missing or empty, a row without a field, a label outside the choices.
    """
    return [row for uri in files for row in _read_file(kind, uri)]


def check_tasks(config: EvalConfig, data: Data) -> None:
    """Read the rows of every task, to find a broken file before anything is computed.

    Raises:
        ConfigError: Data that `config` names and `data` has not.
        DataError: A file that cannot be read as what its task needs.
    """
    for task in config.tasks.values():
        for name in filter(None, (task.data, task.fewshot if task.num_fewshot else None)):
            read_task(task.kind, uris(data, name))


def question(row: Row) -> str:
    """What is asked, without what is right: equal for equal questions."""
    return json.dumps({key: value for key, value in row.items() if key not in (*ANSWERS, ID)}, sort_keys=True)


def read_with(kind: str, uri: str) -> list[str]:
    """Files read beside `uri`, such as its labels."""
    if kind in RAFT:
        return raft_files(uri)
    return [beside] if kind in LABELS and is_file(beside := label_file(uri)) else []


def state(kind: str, uri: str) -> list[str]:
    """What tells this state of the data from another: the SHA-256 of each file, or the hub's own."""
    beside = [] if hub.is_hub(uri) else read_with(kind, uri)
    return [fingerprint(file) for file in (uri, *beside)]


def _read_file(kind: str, uri: str) -> list[Row]:
    if kind in READERS:
        rows = READERS[kind](uri)
    else:
        found = list(hub.rows(uri)) if hub.is_hub(uri) else _read_lines(kind, uri)
        rows = [ADAPTERS[kind](row, f"{uri}:{number}") for number, row in enumerate(found, start=1)]
    if not rows:
        raise DataError(f"{uri} is empty: it holds no example. Fill it or give another file.")
    return rows


def _read_lines(kind: str, uri: str) -> list[Row]:
    """JSON lines, with the labels that lie beside them."""
    rows = [parse_object(line, f"{uri}:{number}") for number, line in enumerate(_lines(uri), start=1)]
    if rows and LABELS.get(kind, "") not in ("", *rows[0]):
        _join_labels(rows, LABELS[kind], label_file(uri), uri)
    return rows


def _lines(uri: str) -> list[str]:
    """Lines; blank ones at the end are none."""
    return [line for line in read_text(uri).split("\n") if line.strip()]


def _join_labels(rows: Sequence[Row], key: str, beside: str, uri: str) -> None:
    """Add the labels that lie beside the rows, as in `valid.jsonl` and `valid-labels.lst`."""
    labels = [line.strip() for line in _lines(beside)]
    if len(labels) != len(rows):
        raise DataError(f"{beside} has {len(labels)} labels for the {len(rows)} rows of {uri}. Give the file's own.")
    for row, label in zip(rows, labels, strict=True):
        row[key] = label
