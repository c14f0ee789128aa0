"""Sealed artifacts brought to another place, listed there and taken away."""

import shutil
from pathlib import Path

from headrace import atomic, buckets, storage
from headrace.artifacts import MANIFEST, Manifest
from headrace.errors import IntegrityError


def copy(source: str | Path, target: str | Path) -> Manifest:
    """Bring an artifact to another place, digest and all; what stood there is replaced.

    Args:
        source: A local directory, or `gs://bucket/prefix` where `target` is local.
        target: A local directory or `gs://bucket/prefix`.

    Raises:
        IntegrityError: Nothing sealed stands at `source`, or what arrived at a local `target` is damaged.
        UnavailableError: A bucket does not answer, or refuses.
    """
    manifest = storage.read_manifest(source)
    if buckets.is_bucket(str(target)):
        storage.upload(Path(source), str(target), manifest)
        return manifest
    with storage.writing(target) as tree:
        _bring(str(source), tree.path, [*manifest.files, MANIFEST])
        storage.check(tree.path, manifest, where=str(source))
        tree.manifest = manifest
    return manifest


def _bring(source: str, path: Path, names: list[str]) -> None:
    if buckets.is_bucket(source):
        buckets.download_tree(source, path, names)
        return
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(Path(source) / name, path / name)
        except FileNotFoundError as error:
            raise IntegrityError(f"{source}/{name} is missing, and its manifest lists it. Make it again.") from error


def names(uri: str) -> list[str]:
    """Names of the artifacts that lie directly under `uri`, sorted; none where nothing is there."""
    if buckets.is_bucket(uri):
        keys = [key.removeprefix(f"{uri.rstrip('/')}/").split("/") for key in buckets.list_objects(uri)]
        return sorted(parts[0] for parts in keys if len(parts) == 2 and parts[1] == MANIFEST)
    return sorted(path.parent.name for path in Path(uri).glob(f"*/{MANIFEST}"))


def remove(uri: str) -> None:
    """Take an artifact away; in a bucket its manifest goes first, so that it is whole or not there."""
    if not buckets.is_bucket(uri):
        atomic.remove(Path(uri))
        return
    manifest = storage.read_manifest(uri)
    buckets.delete_objects(uri, [MANIFEST, *manifest.files])


def put_text(uri: str, text: str) -> None:
    """Replace a small file.

    Raises:
        UnavailableError: It cannot be written there.
    """
    if buckets.is_bucket(uri):
        buckets.write_bytes(uri, text.encode())
    else:
        atomic.write_text(Path(uri), text)
