"""Files that are read as they were when their corpus was gathered, without reading them twice."""

import hashlib
import io
import os
from typing import Any, BinaryIO

from headrace import buckets
from headrace.errors import IntegrityError

READ_BYTES = 2**18


def changed(uri: str) -> IntegrityError:
    """The error about a file that is another by now."""
    return IntegrityError(f"{uri} changed since the corpus was gathered. Gather it again.")


def local_stamp(size_bytes: int, sha256: str) -> str:
    """What tells one state of a local file from another."""
    return f"{size_bytes}:{sha256}"


def watch(file: BinaryIO, name: str, stamp: str) -> BinaryIO:
    """A reader of `file` whose end is reached only if all that was read is what `stamp` was taken of.

    The bytes of a local file are hashed while they pass, so that nothing is read twice; an object's generation
    is asked for again once its last byte has come, and a newer one would have replaced it.

    Args:
        file: Open, at its start.
        name: The path or `gs://` URI that it was opened by.
        stamp: What `references.stamp` said of it.

    Raises:
        IntegrityError: It has another size or generation already; the reader raises the same at its end.
    """
    remote = buckets.is_bucket(name)
    state = buckets.stamp(name) if remote else str(os.fstat(file.fileno()).st_size)
    if state != (stamp if remote else stamp.partition(":")[0]):
        file.close()
        raise changed(name)
    return io.BufferedReader(_Watched(file, name, stamp), READ_BYTES)


class _Watched(io.RawIOBase):
    """Passes bytes on, and looks at what they were when there are no more."""

    def __init__(self, file: BinaryIO, name: str, stamp: str) -> None:
        self._file, self._name, self._stamp = file, name, stamp
        self._hash = None if buckets.is_bucket(name) else hashlib.sha256()
        self._bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._bytes += len(data)
        if self._hash is not None:
            self._hash.update(data)
        if not data and self._state() != self._stamp:
            raise changed(self._name)
        return len(data)

    def _state(self) -> str:
        return buckets.stamp(self._name) if self._hash is None else local_stamp(self._bytes, self._hash.hexdigest())

    def close(self) -> None:
        self._file.close()
        super().close()
