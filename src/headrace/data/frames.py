"""Whether zstandard data ends where one of its frames does, told by the headers alone.

Zstandard's own stream reader ends quietly where a file was cut off, and so would drop documents without a word.

Source: RFC 8878, sections 3.1.1 (frames and blocks) and 3.1.2 (skippable frames).
"""

from typing import BinaryIO, NamedTuple

HEADER_BYTES = 18
"""The longest header of a frame, its magic number included."""
FRAME, SKIPPABLE = 0xFD2FB528, 0x184D2A5
REPEATED = 1
"""Type of a block that is one byte and how often it is repeated."""


class Part(NamedTuple):
    """A header with what follows it up to the next one."""

    length: int
    trailer: int | None
    """Bytes of checksum at the end of the frame that is open after this part; None where none is."""


class Followed:
    """A compressed file, followed from header to header while something else reads it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._held = b""
        self._at = 0
        """Where the next header begins, counted from the start of what is held; it may lie beyond its end."""
        self._trailer: int | None = None

    def read(self, size: int) -> bytes:
        """Read on, up to `size` bytes; none at the end."""
        block = self._file.read(size)
        held = self._held + block
        at, self._trailer = _follow(held, self._at, self._trailer, len(held) - HEADER_BYTES + 1)
        self._held, self._at = held[at:], max(at - len(held), 0)
        return block

    def is_whole(self) -> bool:
        """Whether what was read so far ends where a frame does."""
        held = len(self._held)
        end = _follow(self._held + bytes(HEADER_BYTES), self._at, self._trailer, held)
        return end == Part(held, None)


def _follow(data: bytes, at: int, trailer: int | None, stop: int) -> Part:
    """Go from header to header, while one begins before `stop`: where the next one is, and what is open there."""
    while at < stop:
        length, trailer = read_part(data, at, trailer)
        at += length
    return Part(at, trailer)


def read_part(data: bytes, at: int, trailer: int | None) -> Part:
    """Read one header; `trailer` is that of the open frame, None between frames."""
    if trailer is not None:
        return _read_block(data, at, trailer)
    magic = int.from_bytes(data[at : at + 4], "little")
    if magic >> 4 == SKIPPABLE:
        return Part(8 + int.from_bytes(data[at + 4 : at + 8], "little"), None)
    if magic != FRAME:
        return Part(len(data) - at, None)
    flags = data[at + 4]
    single = flags >> 5 & 1
    size_bytes = (single, 2, 4, 8)[flags >> 6]
    return Part(5 + (not single) + (0, 1, 2, 4)[flags & 3] + size_bytes, 4 * (flags >> 2 & 1))


def _read_block(data: bytes, at: int, trailer: int) -> Part:
    header = int.from_bytes(data[at : at + 3], "little")
    last, kind, size = header & 1, header >> 1 & 3, header >> 3
    length = 3 + (1 if kind == REPEATED else size)
    return Part(length + trailer, None) if last else Part(length, trailer)
