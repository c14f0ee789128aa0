"""Rows of the harness's tasks as they are handed on, checked and turned into the fields that it expects."""

from collections.abc import Callable
from typing import Any

from headrace.errors import DataError

Row = dict[str, Any]
ID = "id"
"""Optional field that says what an example is about, so that two wordings of it can be held against each other."""
LETTERS = "ABCD"


def text(row: Row, key: str, where: str) -> str:
    """One text field that is there and not empty."""
    value = row.get(key)
    if key not in row:
        raise DataError(f"{where} has no {key!r}. Add the field, or give data of this task.")
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where} has {key}={value!r}, which is no text. Repair or remove the line.")
    return value


def choice(row: Row, key: str, first: int, count: int, where: str) -> int:
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
        return {"text": text(row, "text", where)}
    word = text(row, "continuation", where).strip()
    if " " in word:
        raise DataError(f"{where} has continuation={word!r}, and LAMBADA asks for one word. Shorten it.")
    return {"text": f"{text(row, 'context', where)} {word}"}


def _hellaswag(row: Row, where: str) -> Row:
    endings = row.get("endings")
    if not isinstance(endings, list) or len(endings) < 2 or not all(isinstance(e, str) and e for e in endings):
        raise DataError(f"{where} has endings={endings!r}, which is no list of two texts or more. Repair the line.")
    first, second = split_context(text(row, "ctx", where)) if "ctx_a" not in row else (row["ctx_a"], row["ctx_b"])
    label = choice(row, "label", 0, len(endings), where)
    activity = text(row, "activity_label", where)
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
    sentence = text(row, "sentence", where)
    if "_" not in sentence:
        raise DataError(f"{where} has no '_' in its sentence, where the options belong. Repair the line.")
    options = {key: text(row, key, where) for key in ("option1", "option2")}
    return {"sentence": sentence, **options, "answer": str(choice(row, "answer", 1, 2, where))}


def _piqa(row: Row, where: str) -> Row:
    texts = {key: text(row, key, where) for key in ("goal", "sol1", "sol2")}
    return {**texts, "label": choice(row, "label", 0, 2, where)}


def _mmlu(row: Row, where: str) -> Row:
    choices = row.get("choices")
    if not isinstance(choices, list) or len(choices) != len(LETTERS) or not all(isinstance(c, str) for c in choices):
        raise DataError(f"{where} has choices={choices!r}, which is no list of four texts. Repair the line.")
    number = LETTERS.find(row["answer"]) if row.get("answer") in tuple(LETTERS) else choice(row, "answer", 0, 4, where)
    asked = {key: text(row, key, where) for key in ("question", "subject")}
    return {**asked, "choices": choices, "answer": number}


def _exact_match(row: Row, where: str) -> Row:
    named = {ID: str(row[ID])} if ID in row else {}
    return {**named, "prompt": text(row, "prompt", where), "target": text(row, "target", where).strip()}


ADAPTERS: dict[str, Callable[[Row, str], Row]] = {
    "lambada_openai": _lambada,
    "hellaswag": _hellaswag,
    "winogrande": _winogrande,
    "piqa": _piqa,
    "mmlu": _mmlu,
    "exact_match": _exact_match,
}
