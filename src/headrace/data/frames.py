"""Where compressed data may be cut so that each part unpacks to a bounded amount.

Zstandard's Python binding unpacks whatever it is fed in one piece, and a run of repetitions unpacks to
thousands of times its size. Yet a block of a frame never unpacks to more than 128 KiB, so whole blocks,
counted by their headers, bound what comes out.

Source: RFC 8878, sections 3.1.1 (frames and blocks) and 3.1.2 (skippable frames).
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

BLOCKS_FED = 8
"""Zstandard blocks given out at a time: 1 MiB of text at most."""
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


def cut(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut data anew, however it was blocked before, after every `BLOCKS_FED` parts of it.

    What is no zstandard data is passed on as it is: the decompressor will say so.
    """
    held, at, trailer = b"", 0, None
    for block in blocks:
        held += block
        begin = parts = 0
        while len(held) - at >= HEADER_BYTES:
            length, trailer = read_part(held, at, trailer)
            at, parts = at + length, parts + 1
            if parts == BLOCKS_FED and at <= len(held):
                yield held[begin:at]
                begin, parts = at, 0
        yield held[begin : min(at, len(held))]
        held, at = held[at:], max(at - len(held), 0)
    yield held


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
