"""Artifact trees on a local disk or in a bucket: written whole or not at all, verified when read.

`writing` stages files beside the target, hashes them, writes the manifest last and only then lets the
name appear, so that a process killed at any instant leaves either the old state or the new one.
`read` gives the typed facts and a local path and refuses what the manifest does not vouch for.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from headrace import atomic, buckets
from headrace.artifacts import MANIFEST, FileEntry, Manifest
from headrace.atomic import write_text
from headrace.config import decode, encode
from headrace.errors import ConfigError, IntegrityError, MismatchError

__all__ = [
    "Stored",
    "Tree",
    "cache",
    "cached",
    "check",
    "exists",
    "hash_file",
    "hash_files",
    "hash_stream",
    "read",
    "read_manifest",
    "upload",
    "verify",
    "write_text",
    "writing",
]

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

    def commit(
        self, facts: Any, parents: Mapping[str, str] | None = None, known: Mapping[str, FileEntry] | None = None
    ) -> Manifest:
        """Seal what lies under `path`; the tree appears at its URI when the `with` block ends.

        Args:
            facts: The dataclass of `headrace.artifacts` that describes the files.
            parents: Digests of the artifacts they were made from, by role.
            known: Entries of files that were hashed while they were written, and are not read again.

        Raises:
            ConfigError: A fact has another type than its dataclass says.
        """
        # As they will be read back: a 3 among floats would otherwise change the digest by becoming 3.0.
        facts = decode(type(facts), encode(facts))
        self.manifest = Manifest(facts=facts, files=hash_files(self.path, known), parents=dict(parents or {}))
        (self.path / MANIFEST).write_text(self.manifest.to_json(), encoding="utf-8")
        return self.manifest


@contextlib.contextmanager
def writing(uri: str | Path) -> Iterator[Tree]:
    """Stage a tree for `uri`, a local path or `gs://bucket/prefix`; publish it if it was committed.

    An artifact that already stands at a local `uri` is replaced in one step; one in a bucket stops to
    exist before its first file is overwritten. A block that ends without `commit`, by an error or
    otherwise, publishes nothing and leaves nothing behind.

    Raises:
        ConfigError: Something stands at a local `uri` that is no artifact, and would be lost.
    """
    uri = str(uri)
    if buckets.is_bucket(uri):
        with tempfile.TemporaryDirectory(prefix="headrace-") as staging:
            tree = Tree(uri, Path(staging))
            yield tree
            if tree.manifest is not None:
                upload(tree.path, uri, tree.manifest)
        return
    target = Path(os.path.realpath(uri))
    _check_replaceable(target)
    with atomic.staging(target) as staged:
        tree = Tree(uri, staged)
        yield tree
        if tree.manifest is not None:
            atomic.publish(staged, target)


def _check_replaceable(target: Path) -> None:
    if target.is_file() or (target.is_dir() and not exists(target) and any(target.iterdir())):
        raise ConfigError(f"{target} is no artifact that could be replaced. Give another path, or move it away.")


def upload(path: Path, uri: str, manifest: Manifest) -> None:
    """Bring a sealed directory to a bucket; what stood there before goes first, manifest foremost."""
    replaced: set[str] = set()
    with contextlib.suppress(IntegrityError):
        replaced = set(read_manifest(uri).files)
    buckets.delete_objects(uri, [MANIFEST])
    buckets.upload_tree(path, uri, last=MANIFEST)
    buckets.delete_objects(uri, sorted(replaced - set(manifest.files)))


def exists(uri: str | Path) -> bool:
    """Whether a sealed artifact stands at `uri`; half-written directories do not count."""
    if buckets.is_bucket(str(uri)):
        return buckets.has_object(buckets.join(str(uri), MANIFEST))
    return (Path(uri) / MANIFEST).is_file()


def read_manifest(uri: str | Path) -> Manifest:
    """Read the manifest of a local or remote artifact.

    Raises:
        IntegrityError: Nothing sealed stands at `uri`, or its manifest is altered.
    """
    uri = str(uri)
    if not exists(uri):
        raise IntegrityError(f"{uri} holds no {MANIFEST}, so no artifact is there. Run the step that makes it.")
    remote = buckets.is_bucket(uri)
    text = buckets.read_bytes(buckets.join(uri, MANIFEST)) if remote else (Path(uri) / MANIFEST).read_bytes()
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
        raise MismatchError(f"{uri} is of kind {kind}, and {wanted} is wanted. Give the other path.")
    if buckets.is_bucket(str(uri)):
        return Stored(_download(str(uri), manifest, hashes=verify), manifest.facts, manifest)
    check(Path(uri), manifest, hashes=verify)
    return Stored(Path(uri), manifest.facts, manifest)


def verify(uri: str | Path) -> Manifest:
    """Re-hash every file of a local artifact and return its manifest.

    Raises:
        IntegrityError: A file is missing, short or altered; the message names it.
    """
    manifest = read_manifest(uri)
    check(Path(uri), manifest)
    return manifest


def check(path: Path, manifest: Manifest, *, hashes: bool = True, where: str = "") -> None:
    """Compare the files under `path` with their manifest.

    Args:
        path: A local directory.
        manifest: What its files should be.
        hashes: Hash every file; otherwise only presence and size are checked.
        where: What messages call the directory, where it stands for another place.

    Raises:
        IntegrityError: A file is missing, short or altered.
    """
    for name, entry in manifest.files.items():
        file, shown = path / name, f"{where or path}/{name}"
        if not file.is_file():
            raise IntegrityError(f"{shown} is missing, and its manifest lists it. Run the step that makes it again.")
        size = file.stat().st_size
        if size != entry.bytes:
            raise IntegrityError(
                f"{shown} has {size:,} bytes, and its manifest says {entry.bytes:,}. Run the step that makes it again."
            )
        if hashes and hash_file(file) != entry.sha256:
            raise IntegrityError(f"{shown} is altered: its SHA-256 is not the recorded one. Run the step again.")


def hash_file(path: Path) -> str:
    """SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hash_stream(file)


def hash_stream(file: BinaryIO) -> str:
    """SHA-256 of what is left to read of an open file, read in blocks."""
    digest = hashlib.sha256()
    while block := file.read(HASH_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def hash_files(directory: Path, known: Mapping[str, FileEntry] | None = None) -> dict[str, FileEntry]:
    """Size and SHA-256 of every file under `directory` but its manifest, by relative path; `known` ones as given."""
    paths = {p.relative_to(directory).as_posix(): p for p in sorted(directory.rglob("*")) if p.is_file()}
    return {
        name: (known or {}).get(name) or FileEntry(bytes=path.stat().st_size, sha256=hash_file(path))
        for name, path in paths.items()
        if name != MANIFEST
    }


def cache() -> Path:
    """Where copies of remote artifacts lie, each named by its digest: `HEADRACE_CACHE`, or the user's cache."""
    place = os.environ.get("HEADRACE_CACHE")
    return Path(place) if place else Path.home() / ".cache" / "headrace"


def cached(digest: str, fill: Callable[[Path], None], where: str, *, hashes: bool = True) -> Path:
    """The artifact of this digest in the cache; one that is not there, or damaged, is fetched first.

    Args:
        digest: Its identity.
        fill: Brings the files, manifest included, to the directory it is given.
        where: What messages call the place they come from.
        hashes: Hash every file of a copy that is there; otherwise only presence and size are checked.

    Raises:
        IntegrityError: What was brought is not that artifact.
    """
    target = cache() / digest
    with contextlib.suppress(IntegrityError):
        manifest = read_manifest(target)
        if manifest.digest == digest:
            check(target, manifest, hashes=hashes)
            return target
    atomic.remove(target)
    with writing(target) as tree:
        fill(tree.path)
        if not exists(tree.path):
            raise IntegrityError(f"{where} holds no {MANIFEST}, so no artifact is there. Make it again.")
        manifest = Manifest.from_json((tree.path / MANIFEST).read_bytes(), where)
        if manifest.digest != digest:
            raise IntegrityError(
                f"{where} is {manifest.digest[:12]}, not {digest[:12]} as recorded. Read or make it again."
            )
        check(tree.path, manifest, where=where)
        tree.manifest = manifest
    return target


def _download(uri: str, manifest: Manifest, *, hashes: bool) -> Path:
    """Bring a remote artifact to the cache."""
    names = [*manifest.files, MANIFEST]
    return cached(manifest.digest, lambda path: buckets.download_tree(uri, path, names), uri, hashes=hashes)
