"""Lines of `.jsonl` files as records, parsed by a format's own fields; a broken line does not stop those after it."""

import json
from collections.abc import Iterator
from typing import Any

from headrace.data.formats.document import Document, FaultyRecord, Origin, Parse
from headrace.data.lines import open_file, read_lines
from headrace.data.quarantine import Fault

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_records(origin: Origin, parse: Parse) -> Iterator[Document | Fault]:
    """Yield a document, or a fault, for each line."""
    import orjson

    file, loads = origin.file, orjson.loads
    for line in numbered(file, origin.stamp):
        if isinstance(line, Fault):
            yield line
            continue
        number, data = line
        try:
            values = loads(data)
            if not isinstance(values, dict):
                raise FaultyRecord(f"is a JSON {type(values).__name__}, not an object")
            document = parse(values, number)
        except json.JSONDecodeError as error:
            yield Fault(file, number, broken(data, error))
        except FaultyRecord as error:
            yield Fault(file, number, str(error))
        else:
            yield document


def numbered(file: str, stamp: str = "") -> Iterator[tuple[int, bytes] | Fault]:
    """Yield lines with their numbers; a blank line before the last that is not blank is a fault."""
    blank: list[int] = []
    for number, data in enumerate(read_lines(file, stamp), start=1):
        if number == 1:
            data = data.removeprefix(BYTE_ORDER_MARK)
        if not data or data.isspace():
            blank.append(number)
            continue
        if blank:
            yield from (Fault(file, place, "is blank") for place in blank)
            blank = []
        yield number, data


def broken(data: bytes, error: json.JSONDecodeError) -> str:
    """Say why `data` is no JSON: its bytes, half a surrogate pair or its syntax."""
    reason = undecodable(data)
    if reason:
        return reason
    if "surrogate" in error.msg:
        return "has half a surrogate pair, which is no UTF-8"
    return f"is broken JSON ({error})"


def undecodable(data: bytes) -> str:
    """Say which byte is not UTF-8; nothing where all are."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return f"is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}"
    return ""


def load_json(file: str, stamp: str = "") -> Any:
    """The whole of a `.json` file, or the fault that it is.

    Raises:
        DataError: It cannot be opened.
        IntegrityError: It is not what `stamp` was taken of.
    """
    import orjson

    with open_file(file, stamp) as stream:
        data = stream.read().removeprefix(BYTE_ORDER_MARK)
    if not data or data.isspace():
        return None
    try:
        return orjson.loads(data)
    except json.JSONDecodeError as error:
        return Fault(file, 0, broken(data, error))
