"""Held-out tasks of Natural-Instructions: exact match and ROUGE-L against every output that is given.

A prompt is the one that is trained on: the definition, two positive examples, the input. On the hub a row is one
instance with one of its outputs, `id`, `definition`, `inputs` and `targets`, and there are no examples to show.

Source: Wang et al. 2022, Super-NaturalInstructions, arXiv:2204.07705, whose `eval/automatic/evaluation.py` normalises
for exact match (lower case, no punctuation, single spaces), stems for ROUGE-L, and takes the best reference.
"""

import string
from collections.abc import Sequence
from typing import Any

from headrace.data import hub
from headrace.data.formats import natural_instructions as ni
from headrace.data.formats.document import FaultyRecord
from headrace.errors import DataError
from headrace.evaluation.files import parse_object, read_text
from headrace.evaluation.rows import ID, Row

PUNCTUATION = str.maketrans("", "", string.punctuation)


def read_instances(uri: str) -> list[Row]:
    """Read the instances of a task file, or of the tasks of a split on the hub.

    Returns:
        Rows of `prompt`, `references`, and the first of them as `target`.

    Raises:
        DataError: The file is missing or of another schema, or an instance has no output.
    """
    if hub.is_hub(uri):
        return _read_hub(uri)
    task = parse_object(read_text(uri), uri)
    try:
        opening = ni.opening(task, {"Positive Examples": 2})
        return [_row(instance, opening, uri, number) for number, instance in enumerate(ni.instances(task), start=1)]
    except FaultyRecord as error:
        raise DataError(f"{uri} {error}. Give a task file of Natural-Instructions.") from error


def _read_hub(uri: str) -> list[Row]:
    """One row for each instance; rows of one id that ask the same are one instance with several outputs."""
    found: dict[tuple[str, str], Row] = {}
    for number, values in enumerate(hub.rows(uri), start=1):
        try:
            opening, instance = ni.unpacked(values)
        except FaultyRecord as error:
            raise DataError(f"{uri} row {number} {error}. Give a data set of Natural-Instructions.") from error
        row = _row(instance, opening, uri, number)
        first = found.setdefault((row.get(ID, str(number)), row["prompt"]), row)
        if first is not row:
            first["references"] += row["references"]
    return list(found.values())


def _row(instance: Any, opening: str, uri: str, number: int) -> Row:
    try:
        prompt, references = ni.asked(opening, instance)
    except FaultyRecord as error:
        raise DataError(f"{uri} instance {number} {error}. Repair or remove it.") from error
    named = {ID: str(instance[ID])} if ID in instance else {}
    return {**named, "prompt": prompt, "target": references[0], "references": references}


def score(answer: str, references: Sequence[str]) -> dict[str, float]:
    """Hold an answer against the references: `exact_match` and `rouge_l`, an F-measure, from 0 to 1."""
    scorer = _scorer()
    return {
        "exact_match": float(any(normalize(answer) == normalize(reference) for reference in references)),
        "rouge_l": max(scorer.score(reference, answer)["rougeL"].fmeasure for reference in references),
    }


def normalize(text: str) -> str:
    """What counts of an answer: its words in lower case, without punctuation."""
    return " ".join(text.lower().translate(PUNCTUATION).split())


def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=True)
