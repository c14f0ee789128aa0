"""Evaluation data as it is found, turned into the fields that the harness's tasks expect.

Data sets are handed on in several shapes: labels in a file of their own, a context not yet cut into its
two parts. What a row must hold is checked here, so that a broken file is one line and not a traceback.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace import buckets
from headrace.config import nearest
from headrace.errors import ConfigError, DataError

Row = dict[str, Any]
Data = Mapping[str, str | Sequence[str]]
"""Files or `gs://` objects by name; a name may stand for several."""
ANSWERS = ("label", "answer", "target")
"""Fields that say what is right; the others are the question."""
ID = "id"
"""Optional field that says what an example is about, so that two wordings of it can be held against each other."""


def uris(data: Data, name: str) -> list[str]:
    """The files behind a name.

    Raises:
        ConfigError: No such data was given.
    """
    if name not in data:
        raise ConfigError(f"There is no data {name!r} to evaluate on. {nearest(name, data)}")
    found = data[name]
    return [found] if isinstance(found, str) else list(found)


def read_bytes(uri: str) -> bytes:
    """All bytes of a local file or an object.

    Raises:
        DataError: It cannot be opened.
    """
    try:
        if buckets.is_bucket(uri):
            with buckets.open_object(uri) as file:
                return file.read()
        return Path(uri).read_bytes()
    except OSError as error:
        raise DataError(f"{uri} cannot be opened ({error.strerror}). Check the path of the evaluation data.") from error


def read_task(kind: str, files: Sequence[str]) -> list[Row]:
    """Read and check the rows of one task, in the harness's fields.

    Raises:
        DataError: A file that is missing or empty, a row without a field, a label outside the choices.
    """
    return [row for uri in files for row in _read_file(kind, uri)]


def question(row: Row) -> str:
    """What is asked, without what is right: equal for equal questions."""
    return json.dumps({key: value for key, value in row.items() if key not in (*ANSWERS, ID)}, sort_keys=True)


def _read_file(kind: str, uri: str) -> list[Row]:
    lines = _lines(uri)
    rows = [(f"{uri}:{number}", _parse(line, f"{uri}:{number}")) for number, line in lines]
    if not rows:
        raise DataError(f"{uri} is empty: it holds no example. Fill it or give another file.")
    label = {"piqa": "label", "winogrande": "answer"}.get(kind)
    if label is not None and label not in rows[0][1]:
        _join_labels([row for _, row in rows], label, uri)
    adapt = ADAPTERS[kind]
    return [adapt(row, where) for where, row in rows]


def _lines(uri: str) -> list[tuple[int, str]]:
    """Numbered lines that are not blank."""
    try:
        text = read_bytes(uri).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{uri} is not UTF-8: byte {error.start} breaks it. Convert the file to UTF-8.") from error
    return [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _parse(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where} is broken JSON ({error}). Repair or remove the line.") from error
    if not isinstance(row, dict):
        raise DataError(f"{where} is a JSON {type(row).__name__}, not an object. Write one object a line.")
    return row


def _join_labels(rows: Sequence[Row], key: str, uri: str) -> None:
    """Add the labels that lie beside the rows, as in `valid.jsonl` and `valid-labels.lst`."""
    beside = f"{uri.removesuffix('.jsonl')}-labels.lst"
    labels = [line.strip() for _, line in _lines(beside)]
    if len(labels) != len(rows):
        raise DataError(f"{beside} has {len(labels)} labels for the {len(rows)} rows of {uri}. Give the file's own.")
    for row, label in zip(rows, labels, strict=True):
        row[key] = label


def label_files(kind: str, uri: str) -> list[str]:
    """Files read beside `uri`: none, or its labels."""
    beside = f"{uri.removesuffix('.jsonl')}-labels.lst"
    there = buckets.has_object(beside) if buckets.is_bucket(beside) else Path(beside).is_file()
    return [beside] if kind in ("piqa", "winogrande") and there else []


def _text(row: Row, key: str, where: str) -> str:
    """One text field that is there and not empty."""
    value = row.get(key)
    if key not in row:
        raise DataError(f"{where} has no {key!r}. Add the field, or give data of this task.")
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where} has {key}={value!r}, which is no text. Repair or remove the line.")
    return value


def _choice(row: Row, key: str, first: int, count: int, where: str) -> int:
    """One label, a whole number or its digits, within the choices."""
    if key not in row:
        raise DataError(f"{where} has no {key!r}. Add the field, or give data that is labelled.")
    value = row[key]
    last = first + count - 1
    number = int(value) if str(value).strip().isdecimal() and not isinstance(value, bool) else None
    if number is None or not first <= number <= last:
        raise DataError(f"{where} has {key}={value!r}, and the choices are {first} to {last}. Correct the label.")
    return number


def _lambada(row: Row, where: str) -> Row:
    """A passage whose last word is to be told; or the passage and the word apart."""
    if "text" in row or "context" not in row:
        return {"text": _text(row, "text", where)}
    word = _text(row, "continuation", where).strip()
    if " " in word:
        raise DataError(f"{where} has continuation={word!r}, and LAMBADA asks for one word. Shorten it.")
    return {"text": f"{_text(row, 'context', where)} {word}"}


def _hellaswag(row: Row, where: str) -> Row:
    endings = row.get("endings")
    if not isinstance(endings, list) or len(endings) < 2 or not all(isinstance(e, str) and e for e in endings):
        raise DataError(f"{where} has endings={endings!r}, which is no list of two texts or more. Repair the line.")
    first, second = split_context(_text(row, "ctx", where)) if "ctx_a" not in row else (row["ctx_a"], row["ctx_b"])
    label = _choice(row, "label", 0, len(endings), where)
    activity = _text(row, "activity_label", where)
    return {"activity_label": activity, "ctx_a": first, "ctx_b": second, "endings": endings, "label": str(label)}


def split_context(context: str) -> tuple[str, str]:
    """Cut HellaSwag's `ctx` where its second part begins: the last sentence, if it starts in lower case.

    Contexts from ActivityNet end in the subject of the next sentence, in lower case, which the harness
    capitalises; those from WikiHow, marked by brackets, have no second part.
    """
    first, stop, second = context.rpartition(". ")
    if not stop or "[" in context or not second[:1].islower():
        return context, ""
    return f"{first}.", second


def _winogrande(row: Row, where: str) -> Row:
    sentence = _text(row, "sentence", where)
    if "_" not in sentence:
        raise DataError(f"{where} has no '_' in its sentence, where the options belong. Repair the line.")
    options = {key: _text(row, key, where) for key in ("option1", "option2")}
    return {"sentence": sentence, **options, "answer": str(_choice(row, "answer", 1, 2, where))}


def _piqa(row: Row, where: str) -> Row:
    texts = {key: _text(row, key, where) for key in ("goal", "sol1", "sol2")}
    return {**texts, "label": _choice(row, "label", 0, 2, where)}


def _exact_match(row: Row, where: str) -> Row:
    named = {ID: str(row[ID])} if ID in row else {}
    return {**named, "prompt": _text(row, "prompt", where), "target": _text(row, "target", where).strip()}


ADAPTERS: dict[str, Callable[[Row, str], Row]] = {
    "lambada_openai": _lambada,
    "hellaswag": _hellaswag,
    "winogrande": _winogrande,
    "piqa": _piqa,
    "exact_match": _exact_match,
}
