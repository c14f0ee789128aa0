"""One data set of a corpus: where its files lie, their format, and which Natural-Instructions tasks are taken."""

from dataclasses import dataclass

from headrace.data import hub
from headrace.data.documents import absolute, list_sources
from headrace.data.formats import Format, check_format, recognise, recognise_record, split_of, split_of_record
from headrace.data.formats.names import task_name
from headrace.data.lines import open_file
from headrace.data.quarantine import SHOWN, Quarantine
from headrace.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """One file of a corpus, with what is needed to read it; a pod tokenizes one."""

    split: str
    uri: str
    source: str = ""
    format: Format = "auto"
    positive_examples: int = 2
    negative_examples: int = 0
    quarantine_limit: float = 0.001


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFiles:
    """Where a data set lies, and how it is read."""

    uri: str
    """A file, a directory, a glob, the same under `gs://`, or `hub:NAME[/CONFIG][:SPLIT]`."""
    format: Format = "auto"
    """The data set's own, or told by each file's name and first record."""
    split: str = ""
    """`text`, `instructions` or a name for evaluation data; by default what the format is trained on as."""
    tasks: str = ""
    """A list of Natural-Instructions tasks, one a line, such as the official `train_tasks.txt`: only they are taken."""
    except_tasks: str = ""
    """The same, of tasks that are not, such as `test_tasks.txt`."""
    positive_examples: int = 2
    """Solved examples before each instance of a Natural-Instructions task, as Tk-Instruct shows them."""
    negative_examples: int = 0
    """Examples of a wrong output, after those."""
    quarantine_limit: float = 0.001
    """Share of a file's documents that may be faulty."""
    skip_empty_files: bool = False
    """Leave files of no bytes out, as exports of P3 have them, and list them in the corpus; else they are refused."""

    def __post_init__(self) -> None:
        check_format(self.format)
        if not self.uri:
            raise ConfigError(
                "A source has an empty uri: there is nothing to read. Give a file, directory or hub name."
            )
        for name in ("positive_examples", "negative_examples"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}={getattr(self, name)} is no number of examples. Set 0 or more.")
        if hub.is_hub(self.uri) and (self.tasks or self.except_tasks):
            raise ConfigError(
                f"{self.uri} has no task files to choose from by a list. Leave the lists out, or give files."
            )
        Quarantine(self.quarantine_limit)

    def pieces(self, name: str) -> tuple[list[Piece], list[str]]:
        """The files of the data set, which the corpus calls `name`, and empty ones that are left out.

        Raises:
            DataError: There are none, or none of the tasks wanted, or some are empty.
        """
        wanted = _wanted(list_sources(self.uri, self.format), self.tasks, self.except_tasks)
        if not wanted:
            lists = " and ".join(filter(None, (self.tasks, self.except_tasks)))
            raise DataError(f"{self.uri} holds no task that {lists} leaves. Check the lists and the files' names.")
        empty = [uri for uri in wanted if not hub.is_hub(uri) and _is_empty(uri)]
        if empty and (len(empty) == len(wanted) or not self.skip_empty_files):
            first = ", ".join(empty[:SHOWN]) + (", ..." if len(empty) > SHOWN else "")
            raise DataError(
                f"{len(empty)} of {len(wanted)} files of source {name!r} are empty: {first}. Remove them, or set "
                f"corpus.sources.{name}.skip_empty_files=true."
            )
        return [self._piece(name, uri) for uri in wanted if uri not in empty], empty

    def _piece(self, name: str, uri: str) -> Piece:
        form, split = self.format, self.split
        if hub.is_hub(uri) and (form == "auto" or not split):
            first = next(hub.rows(uri), {})
            form = recognise_record(first) if form == "auto" else form
            split = split or split_of_record(form, first)
        form = recognise(uri) if form == "auto" else form
        return Piece(
            split=split or split_of(form, uri),
            uri=absolute(uri),
            source=name,
            format=form,
            positive_examples=self.positive_examples,
            negative_examples=self.negative_examples,
            quarantine_limit=self.quarantine_limit,
        )


def _is_empty(uri: str) -> bool:
    with open_file(uri) as file:
        return not file.read(1)


def _wanted(files: list[str], tasks: str, except_tasks: str) -> list[str]:
    """Files of the tasks in the one list and not in the other."""
    kept, dropped = read_tasks(tasks) if tasks else None, read_tasks(except_tasks) if except_tasks else set()
    return [file for file in files if (kept is None or task_name(file) in kept) and task_name(file) not in dropped]


def read_tasks(uri: str) -> set[str]:
    """Task names, one a line, as Natural-Instructions publishes its splits.

    Raises:
        DataError: The list is missing, empty or not UTF-8.
    """
    with open_file(uri) as file:
        data = file.read()
    try:
        names = {line.strip() for line in data.decode("utf-8-sig").splitlines()} - {""}
    except UnicodeDecodeError as error:
        raise DataError(f"{uri} is not UTF-8: byte {error.start} breaks it. Give a list of task names.") from error
    if not names:
        raise DataError(f"{uri} is empty: it names no task. Write one a line, such as task019_mctaco.")
    return names
