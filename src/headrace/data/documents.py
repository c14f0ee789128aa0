"""Read the documents of a corpus, local, in a bucket or on a hub, one at a time and in any of the known formats.

Files are streamed: memory holds one block and one document, however large the file; a task file, which is one
JSON value, is held whole. What is no document is handed to a quarantine, or refused at once where there is none.
"""

import fnmatch
from collections.abc import Iterator, Sequence
from pathlib import Path

from headrace import buckets, storage
from headrace.artifacts import MANIFEST
from headrace.data import hub
from headrace.data.formats import SUFFIXES_OF, check_format, read_file
from headrace.data.formats.document import Document, Origin
from headrace.data.formats.names import SUFFIXES
from headrace.data.quarantine import Fault, Quarantine
from headrace.errors import DataError

__all__ = ["Document", "absolute", "is_elsewhere", "list_sources", "read_documents", "sealed_parents"]

WILDCARDS = "*?["


def list_sources(uri: str, format: str = "auto") -> list[str]:
    """Files of a corpus, sorted: a file, a directory, a glob, the same under `gs://`, or a `hub:` name.

    Raises:
        DataError: Nothing is there, or nothing that the format comes in.
    """
    if hub.is_hub(uri):
        return [hub.resolve(uri)]
    names = _list_bucket(uri) if buckets.is_bucket(uri) else _list_local(uri)
    suffixes = SUFFIXES_OF[check_format(format)]
    readable = sorted(name for name in names if name.endswith(suffixes) and name.rpartition("/")[2] != MANIFEST)
    if not readable:
        there = names or (not is_elsewhere(uri) and Path(uri).is_dir())
        reason = f"holds no {', '.join(suffixes)} file" if there else "does not exist"
        raise DataError(f"{uri} {reason}. Give a file, a directory or a quoted glob such as 'corpus/*.jsonl'.")
    return readable


def is_elsewhere(uri: str) -> bool:
    """Whether `uri` names something in a bucket or on a hub, and no local path."""
    return buckets.is_bucket(uri) or hub.is_hub(uri)


def absolute(uri: str) -> str:
    """The same file from another directory, since the steps that read it run in others."""
    return uri if is_elsewhere(uri) else str(Path(uri).absolute())


def _list_local(uri: str) -> list[str]:
    if Path(uri).is_dir():
        return [str(path) for path in Path(uri).rglob("*") if path.is_file()]
    if Path(uri).is_file():
        return [uri]
    fixed = uri[: _first_wildcard(uri)].rpartition("/")[0]
    base = Path(fixed or ("/" if uri.startswith("/") else "."))
    pattern = uri.removeprefix(fixed).lstrip("/") if set(uri) & set(WILDCARDS) else ""
    return [str(path) for path in base.glob(pattern) if path.is_file()] if pattern else []


def _list_bucket(uri: str) -> list[str]:
    first = _first_wildcard(uri)
    if first == len(uri):
        return [uri] if uri.endswith(SUFFIXES) and buckets.has_object(uri) else buckets.list_objects(uri)
    return [name for name in buckets.list_objects(uri[:first].rpartition("/")[0]) if fnmatch.fnmatch(name, uri)]


def _first_wildcard(uri: str) -> int:
    """Where the first wildcard stands; the length of `uri` where there is none."""
    return min((uri.find(sign) for sign in WILDCARDS if sign in uri), default=len(uri))


def read_documents(
    uri: str,
    *,
    source: str = "",
    format: str = "auto",
    positive_examples: int = 2,
    negative_examples: int = 0,
    quarantine: Quarantine | None = None,
    stamp: str = "",
) -> Iterator[Document]:
    """Yield the documents of a corpus, file by file in sorted order.

    Args:
        uri: What `list_sources` takes.
        source: What the corpus is called; its subsets become `SOURCE/SUBSET`. Documents that neither this
            nor the file names are called after the corpus's file or folder.
        format: One of `headrace.data.formats.Format`.
        positive_examples: Shown before each instance of a Natural-Instructions task.
        negative_examples: The same of wrong outputs.
        quarantine: Takes what is no document, and is told of each that is; its limit is for the caller to check.
        stamp: What `references.stamp` said of `uri`, a single file, when the corpus was gathered.

    Raises:
        DataError: A file that is missing, empty, truncated or not what its name says; without a quarantine,
            also anything in it that is no document. One line with the file, the line number and the reason.
        IntegrityError: The file is not what `stamp` was taken of, which may show only after its last document.
        UnavailableError: A bucket or hub does not answer.
    """
    shown = {"positive_examples": positive_examples, "negative_examples": negative_examples}
    default = _corpus_name(uri)
    for file in list_sources(uri, format):
        origin = Origin(absolute(file), source, default, stamp)
        items = hub.read_hub(origin, format) if hub.is_hub(file) else read_file(origin, format, **shown)
        empty = True
        for item in items:
            empty = False
            if isinstance(item, Fault):
                _set_apart(item, quarantine)
                continue
            if quarantine is not None:
                quarantine.seen()
            yield item
        if empty:
            raise DataError(f"{file} is empty: it holds no document. Remove it or fill it.")


def _set_apart(fault: Fault, quarantine: Quarantine | None) -> None:
    if quarantine is None:
        raise DataError(f"{fault}. Repair or remove it.")
    quarantine.add(fault.file, fault.line, fault.reason)


def sealed_parents(uris: Sequence[str]) -> dict[str, str]:
    """Digests of the sealed corpora behind `uris`, for the lineage of what is made from them."""
    digests: list[str] = []
    for uri in uris:
        folder = (uri.rpartition("/")[0] or ".") if uri.endswith(SUFFIXES) or set(uri) & set(WILDCARDS) else uri
        digest = storage.read_manifest(folder).digest if storage.exists(folder) else ""
        if digest and digest not in digests:
            digests.append(digest)
    return {"corpus" if len(digests) == 1 else f"corpus_{n}": digest for n, digest in enumerate(digests)}


def _corpus_name(uri: str) -> str:
    """What a corpus is called: its file or folder, the folder of a glob, or its name on a hub."""
    if hub.is_hub(uri):
        return hub.parse_name(uri).name.rstrip("/").rpartition("/")[2]
    parts = [part for part in uri.rstrip("/").split("/") if not set(part) & set(WILDCARDS)]
    name = parts[-1] if parts else "corpus"
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name or "corpus"
