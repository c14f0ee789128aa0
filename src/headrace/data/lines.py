"""Lines of `.jsonl` and `.jsonl.zst` files, local or in a bucket, streamed.

Memory holds one block and one line, however large the file.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from headrace import buckets
from headrace.data.frames import Followed
from headrace.data.unchanged import watch
from headrace.errors import DataError

BLOCK_BYTES = 2**18
MAX_WINDOW_BYTES = 2**31
"""Zstandard's `--long=31`; archives of corpora are often packed that way."""


def read_lines(name: str, stamp: str = "") -> Iterator[bytes]:
    """Yield the lines of a file, unpacked where its name ends in `.zst`.

    Raises:
        DataError: The file is missing, truncated or not what its name says.
        IntegrityError: It is not what `stamp` was taken of, which may show at its end only.
    """
    with open_file(name, stamp) as file:
        packed = name.endswith(".zst")
        yield from split_lines(unpack(file, name) if packed else iter(lambda: file.read(BLOCK_BYTES), b""))


def open_file(name: str, stamp: str = "") -> BinaryIO:
    """Open a file or an object to be read, in the state that `stamp` was taken of, if there is one.

    Raises:
        DataError: It cannot be opened.
        IntegrityError: It is in another state, now or at its end.
    """
    file = _open(name)
    return watch(file, name, stamp) if stamp else file


def _open(name: str) -> BinaryIO:
    if buckets.is_bucket(name):
        return buckets.open_object(name)
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise DataError(f"{name} cannot be opened ({error.strerror}). Check the path and its permissions.") from error


def unpack(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Decompress frame after frame, a block at a time however much a frame repeats itself."""
    import zstandard

    followed = Followed(file)
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    reader = decompressor.stream_reader(cast(BinaryIO, followed), BLOCK_BYTES, read_across_frames=True, closefd=False)
    try:
        yield from iter(lambda: reader.read(BLOCK_BYTES), b"")
    except zstandard.ZstdError as error:
        raise DataError(f"{name} is not sound zstandard data ({error}). Fetch or compress it again.") from error
    if not followed.is_whole():
        raise DataError(f"{name} is truncated: its last zstandard frame has no end. Fetch or compress it again.")


def split_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Split blocks at line feeds; a line may span any number of blocks.

    `find` looks at 32 bytes at a time and `split` at one: of documents, it takes a quarter of the time.
    """
    pending: list[bytes] = []
    for block in blocks:
        begin = 0
        while (end := block.find(b"\n", begin)) >= 0:
            pending.append(block[begin:end])
            yield b"".join(pending)
            pending.clear()
            begin = end + 1
        pending.append(block[begin:])
    yield b"".join(pending)


def decode_line(data: bytes, name: str, number: int) -> str:
    """Decode UTF-8, leaving out a byte order mark at the start of the file."""
    try:
        return data.decode("utf-8-sig" if number <= 1 else "utf-8")
    except UnicodeDecodeError as error:
        where = f"{name}:{number}" if number else name
        raise DataError(
            f"{where} is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}. Convert the file to UTF-8."
        ) from error
