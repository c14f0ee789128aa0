"""The evaluation items of a corpus, that are looked for in training documents, and the files they are read from."""

import csv
import io
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from headrace.data import hub
from headrace.data.companions import TASK_FILE, companions, is_file, rows_file
from headrace.data.corpus import TRAINED_ON, splits
from headrace.data.lines import decode_line, read_lines
from headrace.data.references import fingerprint


def evaluation_items(corpus_path: str | Path) -> Iterator[tuple[str, str]]:
    """Id `SPLIT:LINE` and text of every record in the splits of a corpus that are not trained on.

    A record's text is all of its strings, joined: a context and each of its endings, a question and its answer.
    A split of several files counts its lines through. A `.txt` file is one item. Where a task of RAFT is named by
    its `task.json`, which is no item, its rows are counted; of a task of Natural-Instructions its instances are,
    without its definition and examples.
    """
    for split, files in _held_out(corpus_path).items():
        lines = (line for name in files for line in _records(name))
        for number, text in enumerate(lines, start=1):
            if text:
                yield f"{split}:{number}", text


def item_files(corpus_path: str | Path) -> dict[str, tuple[str, ...]]:
    """Fingerprints of the files that `evaluation_items` reads, and of those read with them, sorted, by split.

    By them an evaluation finds whether its own files are among those that were looked for.
    """
    return {split: _fingerprints(files) for split, files in _held_out(corpus_path).items()}


def _fingerprints(files: Sequence[str]) -> tuple[str, ...]:
    beside = [other for uri in files if not hub.is_hub(uri) for other in companions(uri)]
    return tuple(sorted({fingerprint(uri) for uri in (*files, *beside)}))


def _held_out(corpus_path: str | Path) -> dict[str, list[str]]:
    return {split: files for split, files in splits(corpus_path).items() if split not in TRAINED_ON}


def _records(name: str) -> Iterator[str]:
    """The text of each line, empty for a blank one, so that numbers stay those of the file."""
    if hub.is_hub(name):
        yield from (" \n".join(_strings(_asked(row))) for row in hub.rows(name))
    elif name.endswith(".txt"):
        yield _whole(name)
    elif name.rpartition("/")[2] == TASK_FILE and is_file(rows_file(name)):
        rows = csv.reader(io.StringIO(_whole(rows_file(name)), newline=""))
        yield from (" \n".join(row) for row in itertools.islice(rows, 1, None))  # the first names the columns
    elif name.endswith(".json"):
        yield from _instances(_whole(name))
    else:
        yield from (_text(line, name, number) for number, line in enumerate(read_lines(name), start=1))


def _text(line: bytes, name: str, number: int) -> str:
    text = decode_line(line, name, number)
    try:
        return " \n".join(_strings(json.loads(text))) if text.strip() else ""
    except (ValueError, RecursionError):
        return text  # the step that evaluates refuses such a line; here its words are all that matters


def _instances(text: str) -> Iterator[str]:
    """Inputs and outputs of a task of Natural-Instructions; all of another value, or the text of a broken one."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        yield text
        return
    found = value.get("Instances") if isinstance(value, dict) else None
    for one in found if isinstance(found, list) else [value]:
        instance = isinstance(found, list) and isinstance(one, dict)
        yield " \n".join(_strings([one.get("input"), one.get("output")] if instance else one))


def _asked(row: dict[str, Any]) -> Any:
    """What a row of a hub holds of its own; of Natural-Instructions not the definition, which all of a task share."""
    instance = {"definition", "inputs", "targets"} <= row.keys()
    return [row["inputs"], row["targets"]] if instance else row


def _whole(name: str) -> str:
    return b"\n".join(read_lines(name)).decode("utf-8-sig", "replace")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
