"""Plain text: a `.txt` file is one document, to its last byte."""

from collections.abc import Iterator

from headrace.data.formats.document import Document, Origin
from headrace.data.formats.records import BYTE_ORDER_MARK, undecodable
from headrace.data.lines import open_file
from headrace.data.quarantine import Fault


def read(origin: Origin) -> Iterator[Document | Fault]:
    """Yield the file's one document; nothing where it is empty."""
    with open_file(origin.file, origin.stamp) as file:
        data = file.read().removeprefix(BYTE_ORDER_MARK)
    if reason := undecodable(data):
        yield Fault(origin.file, 0, reason)
    elif data:
        yield Document(origin.source(), data.decode(), file=origin.file, line=1)
