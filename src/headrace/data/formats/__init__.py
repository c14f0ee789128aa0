"""The formats that corpora come in, one reader each with the data set's own field names.

`auto` goes by the file's name and its first record. It never decides for `pile`: the generic `jsonl` takes
the Pile's lines as well, and does not mind one without a subset, while `pile` calls that a fault.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, get_args

from headrace.config import nearest
from headrace.data.formats import flan_cot, jsonl, mmlu_cot, natural_instructions, p3, pile, text
from headrace.data.formats.document import Document, Origin, Parse, Record
from headrace.data.formats.names import SUFFIXES, TASK, task_name
from headrace.data.formats.records import load_json, numbered, read_records
from headrace.data.quarantine import Fault
from headrace.errors import ConfigError

Format = Literal["auto", "pile", "p3", "natural_instructions", "mmlu_cot", "flan_cot", "text", "jsonl"]
LINES = (".jsonl", ".jsonl.zst")
SUFFIXES_OF: Mapping[str, tuple[str, ...]] = {
    "auto": SUFFIXES,
    "pile": LINES,
    "p3": LINES,
    "natural_instructions": (".json", *LINES),
    "mmlu_cot": (".json",),
    "flan_cot": (".tsv",),
    "text": (".txt",),
    "jsonl": LINES,
}
PARSERS: Mapping[str, Callable[[Origin], Parse]] = {
    "pile": pile.parser,
    "p3": p3.parser,
    "natural_instructions": natural_instructions.parser,
    "jsonl": jsonl.parser,
}
"""Formats whose records are objects: lines of a file, or rows of a data set on a hub."""
READERS: Mapping[str, Callable[[Origin], Iterator[Document | Fault]]] = {
    "mmlu_cot": mmlu_cot.read,
    "flan_cot": flan_cot.read,
    "text": text.read,
}
"""Formats whose files are read in a way of their own."""


def check_format(name: str) -> str:
    """Give `name` back if it is a format.

    Raises:
        ConfigError: It is none; the nearest is named.
    """
    if name not in get_args(Format):
        raise ConfigError(f"format={name!r} is not a choice. {nearest(name, get_args(Format))}")
    return name


def read_file(
    origin: Origin, form: str, *, positive_examples: int = 2, negative_examples: int = 0
) -> Iterator[Document | Fault]:
    """Yield what a file holds, a fault wherever something is no document.

    Raises:
        DataError: The file cannot be opened or unpacked.
        IntegrityError: It is not what the origin's stamp was taken of.
    """
    form = recognise(origin.file) if form == "auto" else form
    if form in READERS:
        return READERS[form](origin)
    if origin.file.endswith(".json"):
        return natural_instructions.read(
            origin, positive_examples=positive_examples, negative_examples=negative_examples
        )
    return read_records(origin, PARSERS[form](origin))


def recognise(file: str) -> Format:
    """Tell the format of a file by its name, or by its first record where the name leaves it open."""
    if file.endswith(".txt"):
        return "text"
    if file.endswith(".tsv"):
        return "flan_cot"
    if file.endswith(".json"):
        return "natural_instructions" if TASK.match(task_name(file)) else recognise_json(file)
    return recognise_record(first_record(file))


def recognise_json(file: str) -> Format:
    """Tell tasks from exam questions: the latter are an object of strings."""
    content = load_json(file)
    texts = isinstance(content, dict) and content and all(isinstance(value, str) for value in content.values())
    return "mmlu_cot" if texts else "natural_instructions"


def recognise_record(values: Record) -> Format:
    """Tell the format of a record by its fields."""
    if any(set(fields) <= values.keys() for fields in (p3.HUB_FIELDS, p3.FILE_FIELDS)):
        return "p3"
    return "natural_instructions" if {"definition", "inputs", "targets"} <= values.keys() else "jsonl"


def first_record(file: str) -> Record:
    """The first line that is an object; an empty one where there is none."""
    import orjson

    for line in numbered(file):
        try:
            values = None if isinstance(line, Fault) else orjson.loads(line[1])
        except json.JSONDecodeError:
            continue
        if isinstance(values, dict):
            return values
    return {}


def split_of(form: str, file: str) -> str:
    """What a file is trained on as: `text` or `instructions`."""
    return split_of_record(form, first_record(file) if form == "jsonl" else {})


def split_of_record(form: str, first: Record) -> str:
    """The same, by the first record; only the generic format needs to look at it."""
    asks = "text" not in first and "prompt" in first
    return "text" if form in ("pile", "text") or (form == "jsonl" and not asks) else "instructions"
