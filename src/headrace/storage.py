"""Artifact trees on a local disk or in a bucket: written whole or not at all, verified when read.

`writing` stages files beside the target, hashes them, writes the manifest last and only then lets the
name appear, so that a process killed at any instant leaves either the old state or the new one.
`read` gives the typed facts and a local path and refuses what the manifest does not vouch for.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from headrace import buckets
from headrace.artifacts import MANIFEST, FileEntry, Manifest
from headrace.errors import IntegrityError, MismatchError, UnavailableError

Facts = TypeVar("Facts")
HASH_BLOCK_BYTES = 2**22


@dataclass(frozen=True, slots=True)
class Stored(Generic[Facts]):
    """An artifact at rest: a local directory, its facts and its manifest."""

    path: Path
    facts: Facts
    manifest: Manifest

    @property
    def digest(self) -> str:
        """Identity of the artifact."""
        return self.manifest.digest


class Tree:
    """A directory being written; it comes into existence at `commit`."""

    def __init__(self, uri: str, path: Path) -> None:
        self.uri = uri
        self.path = path
        self.manifest: Manifest | None = None

    def commit(self, facts: Any, parents: Mapping[str, str] | None = None) -> Manifest:
        """Seal what lies under `path`; the tree appears at its URI when the `with` block ends.

        Args:
            facts: The dataclass of `headrace.artifacts` that describes the files.
            parents: Digests of the artifacts they were made from, by role.
        """
        manifest = Manifest(facts=facts, files=hash_files(self.path), parents=dict(parents or {}))
        _write_durably(self.path / MANIFEST, manifest.to_json())
        self.manifest = manifest
        return manifest


@contextlib.contextmanager
def writing(uri: str | Path) -> Iterator[Tree]:
    """Stage a tree for `uri`, a local path or `gs://bucket/prefix`; publish it if it was committed.

    An artifact that already stands at a local `uri` is replaced in one rename. A block that ends
    without `commit`, by an error or otherwise, publishes nothing and leaves nothing behind.
    """
    uri = str(uri)
    remote = buckets.is_bucket(uri)
    target = None if remote else Path(uri)
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
    parent, prefix = (None, "headrace-") if target is None else (target.parent, f"{target.name}.partial-")
    staging = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    staging.chmod(0o755)
    try:
        tree = Tree(uri, staging)
        yield tree
        if tree.manifest is not None and target is None:
            buckets.upload_tree(staging, uri, last=MANIFEST)
        elif tree.manifest is not None and target is not None:
            _publish(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _publish(staging: Path, target: Path) -> None:
    """Move a sealed directory to its name, setting aside whatever stood there before."""
    aside = None
    if target.exists():
        aside = Path(tempfile.mkdtemp(prefix=f"{target.name}.partial-", dir=target.parent))
        target.rename(aside / "old")
    staging.rename(target)
    _sync_directory(target.parent)
    if aside is not None:
        shutil.rmtree(aside)


def exists(uri: str | Path) -> bool:
    """Whether a sealed artifact stands at `uri`; half-written directories do not count."""
    if buckets.is_bucket(str(uri)):
        return buckets.has_object(f"{uri}/{MANIFEST}")
    return (Path(uri) / MANIFEST).is_file()


def read_manifest(uri: str | Path) -> Manifest:
    """Read the manifest of a local or remote artifact.

    Raises:
        IntegrityError: Nothing sealed stands at `uri`.
    """
    uri = str(uri)
    if not exists(uri):
        raise IntegrityError(f"{uri} holds no {MANIFEST}, so no artifact is there. Run the step that makes it.")
    text = buckets.read_text(f"{uri}/{MANIFEST}") if buckets.is_bucket(uri) else (Path(uri) / MANIFEST).read_text()
    return Manifest.from_json(text, uri)


def read(uri: str | Path, facts: type[Facts], *, verify: bool = True) -> Stored[Facts]:
    """Open an artifact of the kind `facts`; a remote one is brought to the local cache first.

    Args:
        uri: A local directory or `gs://bucket/prefix`.
        facts: The dataclass of `headrace.artifacts` it must be.
        verify: Hash every file; otherwise only presence and size are checked.

    Raises:
        IntegrityError: Nothing is there, or a file is missing, short or altered.
        MismatchError: It is an artifact of another kind.
    """
    manifest = read_manifest(uri)
    if not isinstance(manifest.facts, facts):
        kind, wanted = type(manifest.facts).kind, getattr(facts, "kind", facts.__name__)
        raise MismatchError(f"{uri} is a {kind}, and a {wanted} is wanted. Give the other path.")
    path = _download(str(uri), manifest) if buckets.is_bucket(str(uri)) else Path(uri)
    check(path, manifest, hashes=verify)
    return Stored(path, manifest.facts, manifest)


def verify(uri: str | Path) -> Manifest:
    """Re-hash every file of a local artifact and return its manifest.

    Raises:
        IntegrityError: A file is missing, short or altered; the message names it.
    """
    manifest = read_manifest(uri)
    check(Path(uri), manifest)
    return manifest


def check(path: Path, manifest: Manifest, *, hashes: bool = True) -> None:
    """Compare the files under `path` with their manifest.

    Raises:
        IntegrityError: A file is missing, short or altered.
    """
    for name, entry in manifest.files.items():
        file = path / name
        if not file.is_file():
            raise IntegrityError(f"{file} is missing, and its manifest lists it. Run the step that makes it again.")
        size = file.stat().st_size
        if size != entry.bytes:
            raise IntegrityError(
                f"{file} has {size:,} bytes, and its manifest says {entry.bytes:,}. Run the step that makes it again."
            )
        if hashes and hash_file(file) != entry.sha256:
            raise IntegrityError(f"{file} is altered: its SHA-256 is not the recorded one. Run the step again.")


def hash_file(path: Path) -> str:
    """SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def hash_files(directory: Path) -> dict[str, FileEntry]:
    """Size and SHA-256 of every file under `directory`, synced to disk, by relative path."""
    entries = {}
    for path in sorted(p for p in directory.rglob("*") if p.is_file() and p.name != MANIFEST):
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        entry = FileEntry(bytes=path.stat().st_size, sha256=hash_file(path))
        entries[path.relative_to(directory).as_posix()] = entry
    return entries


def write_text(path: Path, text: str) -> None:
    """Replace a small file in one step: a reader sees the old text or the new, never a mixture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{path.name}.partial-", dir=path.parent)
    os.close(handle)
    _write_durably(Path(name), text)
    Path(name).replace(path)


def _write_durably(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _download(uri: str, manifest: Manifest) -> Path:
    """Bring a remote artifact to the cache, where its digest is its name."""
    cache = Path(os.environ.get("HEADRACE_CACHE", Path.home() / ".cache" / "headrace"))
    target = cache / manifest.digest
    if exists(target):
        return target
    with writing(target) as tree:
        buckets.download_tree(uri, tree.path, list(manifest.files))
        check(tree.path, manifest)
        sealed = tree.commit(manifest.facts, manifest.parents)
        if sealed.digest != manifest.digest:
            raise UnavailableError(f"{uri} changed while it was being read. Try again.")
    return target
