"""Google Cloud Storage, reduced to what trees and corpora need; its client is imported on first use.

Credentials and endpoint come from the environment as google-cloud-storage documents it:
application default credentials, or `STORAGE_EMULATOR_HOST` for an emulator.
"""

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from headrace.errors import UnavailableError

SCHEME = "gs://"


def is_bucket(uri: str) -> bool:
    """Whether `uri` names an object or prefix in a bucket rather than a local path."""
    return uri.startswith(SCHEME)


@functools.cache
def _client() -> Any:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    if os.environ.get("STORAGE_EMULATOR_HOST"):
        return storage.Client(project="emulated", credentials=AnonymousCredentials())
    return storage.Client()


@contextlib.contextmanager
def _told_plainly(uri: str) -> Iterator[None]:
    """Turn whatever the client raises into one line that names the bucket and the next move."""
    try:
        yield
    except UnavailableError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UnavailableError(f"{uri} cannot be reached ({reason}). Check the name and your credentials.") from error


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix(SCHEME).partition("/")
    return bucket, key.rstrip("/")


def has_object(uri: str) -> bool:
    """Whether exactly this object exists."""
    bucket, key = _split(uri)
    with _told_plainly(uri):
        return bool(_client().bucket(bucket).blob(key).exists())


def read_text(uri: str) -> str:
    """The whole object as UTF-8 text."""
    bucket, key = _split(uri)
    with _told_plainly(uri):
        return str(_client().bucket(bucket).blob(key).download_as_text())


def open_object(uri: str) -> BinaryIO:
    """A buffered reader over one object, for corpora too large to download whole."""
    bucket, key = _split(uri)
    with _told_plainly(uri):
        reader: BinaryIO = _client().bucket(bucket).blob(key).open("rb")
        return reader


def generation(uri: str) -> str:
    """The generation of an object, which changes whenever its bytes do."""
    bucket, key = _split(uri)
    with _told_plainly(uri):
        blob = _client().bucket(bucket).get_blob(key)
        if blob is None:
            raise UnavailableError(f"{uri} does not exist. Check the name.")
        return f"generation:{blob.generation}"


def list_objects(uri: str) -> list[str]:
    """URIs of all objects under a prefix, sorted."""
    bucket, key = _split(uri)
    with _told_plainly(uri):
        blobs = _client().list_blobs(bucket, prefix=f"{key}/" if key else None)
        return sorted(f"{SCHEME}{bucket}/{blob.name}" for blob in blobs)


def upload_tree(directory: Path, uri: str, last: str) -> None:
    """Upload every file under `directory`, `last` after all others have arrived.

    Files go up in parallel (`transfer_manager`); any that fails stops the rest, so `last`, the
    manifest, is there only where everything it lists is.
    """
    from google.cloud.storage import transfer_manager

    bucket_name, prefix = _split(uri)
    names = [p.relative_to(directory).as_posix() for p in sorted(directory.rglob("*")) if p.is_file()]
    with _told_plainly(uri):
        bucket = _client().bucket(bucket_name)
        results = transfer_manager.upload_many_from_filenames(
            bucket,
            [name for name in names if name != last],
            source_directory=str(directory),
            blob_name_prefix=f"{prefix}/",
            worker_type=transfer_manager.THREAD,
            raise_exception=True,
        )
        failed = next((result for result in results if isinstance(result, Exception)), None)
        if failed is not None:
            raise failed
        bucket.blob(f"{prefix}/{last}").upload_from_filename(str(directory / last))


def download_tree(uri: str, directory: Path, names: list[str]) -> None:
    """Download the named objects under `uri` into `directory`, in parallel."""
    from google.cloud.storage import transfer_manager

    bucket_name, prefix = _split(uri)
    with _told_plainly(uri):
        transfer_manager.download_many_to_path(
            _client().bucket(bucket_name),
            names,
            destination_directory=str(directory),
            blob_name_prefix=f"{prefix}/",
            worker_type=transfer_manager.THREAD,
            create_directories=True,
            raise_exception=True,
        )
