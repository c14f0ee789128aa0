"""Plain text: a `.txt` file is one document, to its last byte."""

from collections.abc import Iterator

from headrace.data.formats.document import Document, Origin
from headrace.data.lines import open_file
from headrace.data.quarantine import Fault

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read(origin: Origin) -> Iterator[Document | Fault]:
    """Yield the file's one document; nothing where it is empty."""
    with open_file(origin.file) as file:
        data = file.read().removeprefix(BYTE_ORDER_MARK)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        yield Fault(origin.file, 0, f"is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}")
        return
    if text:
        yield Document(origin.source(), text, file=origin.file, line=1)
