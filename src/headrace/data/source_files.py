"""One data set of a corpus: where its files lie, their format, and which Natural-Instructions tasks are taken."""

import fnmatch
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
    """One file of a corpus, or several small ones, with what is needed to read them; a pod tokenizes one."""

    split: str
    uri: str
    more: tuple[str, ...] = ()
    """Files that are read after `uri`, in the same way."""
    bytes: int = 0
    """Size of `uri`."""
    stamps: tuple[str, ...] = ()
    """What told the state of each of the files when the corpus was gathered, in the order they are read."""
    within: str = ""
    """The corpus that holds the file, which its documents' names leave out: they are the same wherever it lies."""
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
    except_files: tuple[str, ...] = ()
    """Patterns of file names that are left out, such as `("trec_fine_*",)`: empty files are refused until they are."""

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
        """The files of the data set, which the corpus calls `name`, and those that its patterns leave out.

        Raises:
            DataError: There are none, or none of the tasks wanted, some are empty, or a pattern is of none.
        """
        listed = list_sources(self.uri, self.format)
        without = [uri for uri in listed if any(_matches(uri, pattern) for pattern in self.except_files)]
        for pattern in self.except_files:
            if not any(_matches(uri, pattern) for uri in without):
                raise DataError(f"{self.uri} holds no file {pattern!r} to leave out. Correct except_files of {name!r}.")
        wanted = self._tasks_wanted([uri for uri in listed if uri not in without])
        _refuse_empty(name, wanted)
        return [self._piece(name, uri) for uri in wanted], without

    def _tasks_wanted(self, files: list[str]) -> list[str]:
        kept = read_tasks(self.tasks) if self.tasks else None
        dropped = read_tasks(self.except_tasks) if self.except_tasks else set()
        tasks = {file: task_name(file) for file in files}
        wanted = [file for file, task in tasks.items() if (kept is None or task in kept) and task not in dropped]
        if not wanted:
            lists = ", ".join(filter(None, (self.tasks, self.except_tasks, *self.except_files)))
            raise DataError(f"{self.uri} holds no file that {lists} leaves. Check the lists and the files' names.")
        return wanted

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


def _matches(uri: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(uri.rpartition("/")[2], pattern)


def _refuse_empty(name: str, files: list[str]) -> None:
    """Find files of no bytes before the first is tokenized, and name all of them at once."""
    empty = [uri for uri in files if not hub.is_hub(uri) and _is_empty(uri)]
    if empty:
        first = ", ".join(empty[:SHOWN]) + (", ..." if len(empty) > SHOWN else "")
        raise DataError(
            f"{len(empty)} of {len(files)} files of source {name!r} are empty: {first}. Remove them, or name them in "
            f"corpus.sources.{name}.except_files."
        )


def _is_empty(uri: str) -> bool:
    with open_file(uri) as file:
        return not file.read(1)


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
