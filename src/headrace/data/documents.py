"""Read documents from `.txt`, `.jsonl` and `.jsonl.zst`, local or in a bucket, one at a time.

A `.txt` file is one document. A line of `.jsonl` is an object with `text`, or with `prompt` and
`target`; `source` (or the Pile's `meta.pile_set_name`) says where it came from. Files are streamed:
memory holds one block and one document, however large the file.
"""

import fnmatch
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace import buckets, storage
from headrace.data.lines import decode_line, open_file, read_lines
from headrace.errors import DataError

SUFFIXES = (".txt", ".jsonl", ".jsonl.zst")
WILDCARDS = "*?["


@dataclass(frozen=True, slots=True)
class Document:
    """One piece of text, or one instruction with its answer."""

    source: str
    text: str = ""
    """The whole of a plain document; empty for an instruction."""
    prompt: str = ""
    target: str = ""
    """The answer; empty for a plain document, never for an instruction."""
    file: str = ""
    """Where it was read: an absolute path or a `gs://` URI."""
    line: int = 0
    """Its line from 1, or its number from 1 in a file that is not made of lines."""


def list_sources(uri: str) -> list[str]:
    """Files of a corpus, sorted: a file, a directory, a glob, or the same under `gs://`.

    Raises:
        DataError: Nothing is there, or nothing of a known format.
    """
    names = _list_bucket(uri) if buckets.is_bucket(uri) else _list_local(uri)
    readable = sorted(name for name in names if name.endswith(SUFFIXES))
    if not readable:
        reason = f"holds no {', '.join(SUFFIXES)} file" if names else "does not exist"
        raise DataError(f"{uri} {reason}. Give a file, a directory or a quoted glob such as 'corpus/*.jsonl'.")
    return readable


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


def read_documents(uri: str) -> Iterator[Document]:
    """Yield the documents of a corpus, file by file in sorted order.

    Documents without a source of their own are named after the corpus. Empty texts and blank lines are
    passed over.

    Raises:
        DataError: A file that is missing, empty, not UTF-8, truncated, or not what its name says;
            one line with the file, the line number and the reason.
    """
    default = _corpus_name(uri)
    for name in list_sources(uri):
        count = 0
        for document in _read_text(name, default) if name.endswith(".txt") else _read_jsonl(name, default):
            count += 1
            yield document
        if not count:
            raise DataError(f"{name} is empty: it holds no document. Remove it or fill it.")


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
    """What a corpus is called: its file or folder, or the folder of a glob."""
    parts = [part for part in uri.rstrip("/").split("/") if not set(part) & set(WILDCARDS)]
    name = parts[-1] if parts else "corpus"
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name or "corpus"


def _read_text(name: str, default: str) -> Iterator[Document]:
    with open_file(name) as file:
        text = decode_line(file.read(), name, 0)
    if text:
        yield Document(source=default, text=text)


def _read_jsonl(name: str, default: str) -> Iterator[Document]:
    for number, line in enumerate(read_lines(name), start=1):
        if line.strip():
            document = _parse(decode_line(line, name, number), f"{name}:{number}", default)
            if document is not None:
                yield document


def _parse(line: str, where: str, default: str) -> Document | None:
    """Turn one line into a document; None where its text is empty."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is broken JSON ({error}). Repair or remove the line.") from error
    if not isinstance(values, dict):
        raise DataError(f'{where} is a JSON {type(values).__name__}, not an object. Write {{"text": ...}}.')
    source = _source(values, default)
    if "text" in values:
        text = _field(values, "text", where)
        return Document(source=source, text=text) if text else None
    prompt, target = _field(values, "prompt", where), _field(values, "target", where)
    if not target:
        raise DataError(f"{where} has an empty 'target': there is nothing to learn. Fill or remove the line.")
    return Document(source=source, prompt=prompt, target=target)


def _source(values: dict[str, Any], default: str) -> str:
    meta = values.get("meta")
    named = values.get("source") or (meta.get("pile_set_name") if isinstance(meta, dict) else None)
    return str(named) if named else default


def _field(values: dict[str, Any], key: str, where: str) -> str:
    """Read one text field, and refuse what could not be written as UTF-8 again."""
    if key not in values:
        raise DataError(f"{where} has no {key!r}: a line needs 'text', or 'prompt' and 'target'. Add the field.")
    text = values[key]
    if not isinstance(text, str):
        raise DataError(f"{where} has a {key!r} of type {type(text).__name__}. Make it a string.")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{where} has half a surrogate pair in {key!r}, which is no UTF-8. Repair the line."
            ) from error
    return text
