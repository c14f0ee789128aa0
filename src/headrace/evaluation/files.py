"""Evaluation files, local or in a bucket, read whole: they are small."""

import json
from typing import Any

from headrace.data.lines import open_file
from headrace.errors import DataError


def read_bytes(uri: str) -> bytes:
    """All bytes of a local file or an object.

    Raises:
        DataError: It cannot be opened.
    """
    with open_file(uri) as file:
        return file.read()


def read_text(uri: str) -> str:
    """The same as text.

    Raises:
        DataError: It cannot be opened, or is not UTF-8.
    """
    try:
        return read_bytes(uri).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{uri} is not UTF-8: byte {error.start} breaks it. Convert the file to UTF-8.") from error


def parse_object(text: str, where: str) -> dict[str, Any]:
    """One JSON object.

    Raises:
        DataError: It is broken, or no object.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise DataError(f"{where} is broken JSON ({error}). Repair it or give another file.") from error
    if not isinstance(values, dict):
        raise DataError(f"{where} is a JSON {type(values).__name__}, not an object. Give data of this task.")
    return values
