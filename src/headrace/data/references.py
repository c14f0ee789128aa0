"""Files that a corpus refers to and does not hold: what tells one state of them from another."""

from pathlib import Path

from headrace import buckets, storage
from headrace.data import hub
from headrace.data.documents import is_elsewhere
from headrace.data.lines import open_file
from headrace.data.unchanged import changed, local_stamp


def stamp(uri: str) -> str:
    """The size of a file, and its SHA-256 or, of an object, its generation; what a hub says of a data set."""
    if hub.is_hub(uri):
        return hub.state(uri)
    if buckets.is_bucket(uri):
        return buckets.stamp(uri)
    return local_stamp(Path(uri).stat().st_size, storage.hash_file(Path(uri)))


def fingerprint(uri: str) -> str:
    """What a file holds, wherever it lies: its SHA-256; what a hub says of a data set.

    Raises:
        DataError: It cannot be opened.
    """
    if hub.is_hub(uri):
        return hub.state(uri)
    with open_file(uri) as file:
        return storage.hash_stream(file)


def size(stamped: str, unknown: int) -> int:
    """Bytes of a file as its stamp has them; `unknown` where that has none."""
    first = stamped.partition(":")[0]
    return int(first) if first.isdecimal() else unknown


def confirm(uri: str, recorded: str) -> None:
    """Check that a file is still in the state that its stamp was taken in.

    Raises:
        IntegrityError: It has changed, or is gone.
        UnavailableError: A bucket or hub does not answer.
    """
    if (not is_elsewhere(uri) and not Path(uri).exists()) or stamp(uri) != recorded:
        raise changed(uri)
