"""Google Cloud Storage, reduced to what trees and corpora need; its client is imported on first use.

Credentials and endpoint come from the environment as google-cloud-storage documents it:
application default credentials, or `STORAGE_EMULATOR_HOST` for an emulator.
"""

import contextlib
import functools
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from headrace.errors import IntegrityError, UnavailableError

SCHEME = "gs://"
QUESTION_SECONDS = 10
"""How long a question of a few bytes is asked again; a bucket that is silent for longer is named."""
CONTENT_SECONDS = 120
"""The same for the bytes of files, where a whole task's work is at stake."""
CONNECT_SECONDS, ANSWER_SECONDS = 5, 60
READ_BYTES = 2**20


def is_bucket(uri: str) -> bool:
    """Whether `uri` names an object or prefix in a bucket rather than a local path."""
    return uri.startswith(SCHEME)


def join(uri: str, name: str) -> str:
    """The object `name` under the prefix `uri`."""
    return f"{uri.rstrip('/')}/{name}"


@functools.cache
def _client() -> Any:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    if os.environ.get("STORAGE_EMULATOR_HOST"):
        return storage.Client(project="emulated", credentials=AnonymousCredentials())
    return storage.Client()


def _patience(seconds: int) -> dict[str, Any]:
    """Keyword arguments of every call: how long to wait for an answer, and how long to go on asking."""
    from google.cloud.storage.retry import DEFAULT_RETRY

    return {"timeout": (CONNECT_SECONDS, ANSWER_SECONDS), "retry": DEFAULT_RETRY.with_timeout(seconds)}


@contextlib.contextmanager
def _told_plainly(uri: str) -> Iterator[None]:
    """Turn whatever the client raises into one line that names the bucket and the next move."""
    try:
        yield
    except (IntegrityError, UnavailableError):
        raise
    except Exception as error:
        cause = getattr(error, "cause", None) or error  # what a retry gave up on
        reason = str(cause).splitlines()[0][:200] if str(cause) else type(cause).__name__
        raise UnavailableError(f"{uri} cannot be reached ({reason}). Check the name and your credentials.") from error


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix(SCHEME).partition("/")
    return bucket, key.rstrip("/")


def _prefix(uri: str) -> str:
    """What the keys of all objects under `uri` begin with; nothing for a whole bucket."""
    key = _split(uri)[1]
    return f"{key}/" if key else ""


def _blob(uri: str) -> Any:
    bucket, key = _split(uri)
    return _client().bucket(bucket).blob(key)


def has_object(uri: str) -> bool:
    """Whether exactly this object exists."""
    with _told_plainly(uri):
        return bool(_blob(uri).exists(**_patience(QUESTION_SECONDS)))


def read_bytes(uri: str) -> bytes:
    """The whole of a small object."""
    with _told_plainly(uri):
        return bytes(_blob(uri).download_as_bytes(**_patience(QUESTION_SECONDS)))


def write_bytes(uri: str, data: bytes) -> None:
    """Replace a small object."""
    with _told_plainly(uri):
        _blob(uri).upload_from_string(data, **_patience(QUESTION_SECONDS))


class _Plain(io.RawIOBase):
    """A reader over one object whose errors are told plainly, whenever they come."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        with _told_plainly(uri):
            self._reader = _blob(uri).open("rb", **_patience(CONTENT_SECONDS))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _told_plainly(self._uri):
            data = self._reader.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def open_object(uri: str) -> BinaryIO:
    """A buffered reader over one object, for corpora too large to download whole."""
    return io.BufferedReader(_Plain(uri), READ_BYTES)


def stamp(uri: str) -> str:
    """Size and generation of an object; the latter changes whenever its bytes do."""
    bucket, key = _split(uri)
    with _told_plainly(uri):
        blob = _client().bucket(bucket).get_blob(key, **_patience(QUESTION_SECONDS))
        if blob is None:
            raise UnavailableError(f"{uri} does not exist. Check the name.")
        return f"{blob.size}:generation:{blob.generation}"


def list_objects(uri: str) -> list[str]:
    """URIs of all objects under a prefix, sorted."""
    bucket, _ = _split(uri)
    with _told_plainly(uri):
        blobs = _client().list_blobs(bucket, prefix=_prefix(uri) or None, **_patience(QUESTION_SECONDS))
        return sorted(f"{SCHEME}{bucket}/{blob.name}" for blob in blobs)


def upload_tree(directory: Path, uri: str, last: str) -> None:
    """Upload every file under `directory`, `last` after all others have arrived.

    Files go up in parallel (`transfer_manager`); any that fails stops the rest, so `last`, the
    manifest, is there only where everything it lists is.
    """
    from google.cloud.storage import transfer_manager

    names = [p.relative_to(directory).as_posix() for p in sorted(directory.rglob("*")) if p.is_file()]
    with _told_plainly(uri):
        transfer_manager.upload_many_from_filenames(
            _client().bucket(_split(uri)[0]),
            [name for name in names if name != last],
            source_directory=str(directory),
            blob_name_prefix=_prefix(uri),
            upload_kwargs=_patience(CONTENT_SECONDS),
            worker_type=transfer_manager.THREAD,
            raise_exception=True,
        )
        _blob(join(uri, last)).upload_from_filename(str(directory / last), **_patience(CONTENT_SECONDS))


def download_tree(uri: str, directory: Path, names: list[str]) -> None:
    """Download the named objects under `uri` into `directory`, in parallel.

    Raises:
        IntegrityError: One of them does not exist.
    """
    from google.api_core.exceptions import NotFound
    from google.cloud.storage import transfer_manager

    with _told_plainly(uri):
        results = transfer_manager.download_many_to_path(
            _client().bucket(_split(uri)[0]),
            names,
            destination_directory=str(directory),
            blob_name_prefix=_prefix(uri),
            download_kwargs=_patience(CONTENT_SECONDS),
            worker_type=transfer_manager.THREAD,
            create_directories=True,
        )
        for name, result in zip(names, results, strict=True):
            if isinstance(result, NotFound):
                raise IntegrityError(f"{join(uri, name)} is missing, and its manifest lists it. Make it again.")
            if isinstance(result, Exception):
                raise result


def delete_objects(uri: str, names: list[str]) -> None:
    """Delete the named objects under `uri`, as far as they are there."""
    from google.api_core.exceptions import NotFound

    for name in names:
        with _told_plainly(uri), contextlib.suppress(NotFound):
            _blob(join(uri, name)).delete(**_patience(QUESTION_SECONDS))
