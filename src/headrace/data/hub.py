"""Data sets by name, through Hugging Face `datasets`: `hub:NAME[/CONFIG][:SPLIT]`, streamed.

NAME is `OWNER/NAME`, a name of one word, or the path of a local folder; CONFIG is what comes after it; SPLIT
is `train` unless it is given. Rows are numbered from 1, and go through the same formats as the lines of files.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.config import nearest
from headrace.data.formats import PARSERS, recognise_record
from headrace.data.formats.document import Document, FaultyRecord, Origin, Record
from headrace.data.quarantine import Fault
from headrace.data.unchanged import changed
from headrace.errors import ConfigError, DataError, HeadraceError, UnavailableError

SCHEME = "hub:"
CLIENTS = ("aiohttp", "fsspec", "httpx", "huggingface_hub", "requests")
"""Packages whose errors mean that the hub did not answer as it should."""
CONVERTED = "refs/convert/parquet"
"""Where the hub keeps its own copy, in Parquet, of a data set that was published as a script."""


@dataclass(frozen=True, slots=True)
class HubName:
    """Where a data set is, in the terms of `datasets.load_dataset`."""

    name: str
    config: str | None
    split: str


def is_hub(uri: str) -> bool:
    """Whether `uri` names a data set on a hub."""
    return uri.startswith(SCHEME)


def parse_name(uri: str) -> HubName:
    """Take `hub:NAME[/CONFIG][:SPLIT]` apart.

    Raises:
        ConfigError: There is no name in it.
    """
    path, _, split = uri.removeprefix(SCHEME).partition(":")
    parts = path.rstrip("/").split("/")
    local = _is_local(path)
    if not path.strip("/") or (not local and len(parts) > 3):
        raise ConfigError(f"{uri} names no data set. Write hub:OWNER/NAME, hub:OWNER/NAME/CONFIG or hub:NAME:SPLIT.")
    folder = local and not Path(path).is_dir() and Path(path).parent.is_dir()
    if folder or (not local and len(parts) == 3):
        return HubName("/".join(parts[:-1]), parts[-1], split or "train")
    return HubName("/".join(parts), None, split or "train")


def resolve(uri: str) -> str:
    """The same data set whichever directory its name is read from, its split written out."""
    found = parse_name(uri)
    name = str(Path(found.name).absolute()) if _is_local(found.name) else found.name
    return f"{SCHEME}{name}{f'/{found.config}' if found.config else ''}:{found.split}"


def read_hub(origin: Origin, form: str) -> Iterator[Document | Fault]:
    """Yield the rows of a data set's split, a fault wherever one is no document.

    Raises:
        ConfigError: A format that is not made of records.
        UnavailableError: The hub cannot be reached.
        DataError: The data set is there and cannot be read.
        IntegrityError: It is not, or by the last row no longer, what the origin's stamp was taken of.
    """
    _confirm(origin)
    if form != "auto" and form not in PARSERS:
        raise ConfigError(f"{origin.file} cannot be read as {form!r}. {nearest(form, PARSERS)}")
    parse = None if form == "auto" else PARSERS[form](origin)
    for number, values in enumerate(rows(origin.file), start=1):
        parse = parse or PARSERS[recognise_record(values)](origin)
        try:
            document = parse(values, number)
            (document.text + document.prompt + document.target).encode()
        except FaultyRecord as error:
            yield Fault(origin.file, number, str(error))
        except UnicodeEncodeError:
            yield Fault(origin.file, number, "has half a surrogate pair, which is no UTF-8")
        else:
            yield document
    _confirm(origin)


def _confirm(origin: Origin) -> None:
    if origin.stamp and state(origin.file) != origin.stamp:
        raise changed(origin.file)


def rows(uri: str) -> Iterator[Record]:
    """Stream the rows of `uri` as plain objects."""
    with _told_plainly(uri):
        for row in _stream(uri):
            yield dict(row)


def columns(uri: str) -> dict[str, list[str]]:
    """Columns of `uri` in their order, with the names of its classes where one holds their numbers."""
    with _told_plainly(uri):
        found = _stream(uri).features or {}
        return {name: list(getattr(column, "names", [])) for name, column in found.items()}


def _stream(uri: str) -> Any:
    import datasets

    found = parse_name(uri)
    return _unscripted(datasets.load_dataset, found.name, found.config, split=found.split, streaming=True)


def state(uri: str) -> str:
    """What tells one state of a data set from another: the hash that `datasets` would cache it under."""
    with _told_plainly(uri):
        import datasets

        found = parse_name(uri)
        builder = _unscripted(datasets.load_dataset_builder, found.name, found.config)
        return f"hub:{builder.config.name}:{builder.hash}:{builder.config.data_dir or ''}"


def _unscripted(open_as: Callable[..., Any], *named: str | None, **options: Any) -> Any:
    """Open a data set, by the hub's copy of it where it is a script: `datasets` runs none since its version 4."""
    try:
        return open_as(*named, **options)
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
        return open_as(*named, **options, revision=CONVERTED)


@contextlib.contextmanager
def _told_plainly(uri: str) -> Iterator[None]:
    """Turn what `datasets` raises into one line that names the data set and the next move."""
    try:
        yield
    except HeadraceError:
        raise
    except ImportError as error:
        raise ConfigError(f"{uri} needs the package datasets. Install it with pip install datasets.") from error
    except Exception as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        if _is_unreachable(uri, error):
            raise UnavailableError(f"{uri} cannot be reached ({reason}). Check the name and the network.") from error
        raise DataError(f"{uri} cannot be read ({reason}). Check its name, configuration and split.") from error


def _is_unreachable(uri: str, error: Exception) -> bool:
    """Whether the network may be to blame: never for a folder, always for an error of the client itself."""
    local = _is_local(parse_name(uri).name)
    client = type(error).__module__.partition(".")[0] in CLIENTS
    return not local and (client or isinstance(error, OSError))


def _is_local(name: str) -> bool:
    return name.startswith(("/", "."))
