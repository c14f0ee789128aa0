"""Files that are read together with a file of evaluation data, and found by its name.

Labels may lie in `NAME-labels.lst` beside `NAME.jsonl`. A task of RAFT is a folder of `train.csv` and `task.json`, with
`prompt_construction_settings.jsonl` beside or above it. Whoever looks whether evaluation data has changed looks at
them too.
"""

from pathlib import Path

from headrace import buckets

TASK_FILE, ROWS_FILE, SETTINGS_FILE = "task.json", "train.csv", "prompt_construction_settings.jsonl"


def companions(uri: str) -> list[str]:
    """Those that there are, of a local file or an object."""
    name = uri.rpartition("/")[2]
    labels = [label_file(uri)] if name.endswith(".jsonl") else []
    task = raft_files(uri) if name in (TASK_FILE, ROWS_FILE) else []
    return list(filter(is_file, labels + task))


def label_file(uri: str) -> str:
    """Where the labels of `NAME.jsonl` lie that are not in its rows."""
    return f"{uri.removesuffix('.jsonl')}-labels.lst"


def raft_files(uri: str) -> list[str]:
    """What a task of RAFT is read from besides the file that names it."""
    settings = settings_file(uri)
    found = [beside(uri, TASK_FILE), rows_file(uri), *([settings] if settings else [])]
    return [file for file in found if file != uri]


def rows_file(uri: str) -> str:
    """The labelled rows of a task of RAFT."""
    return uri if uri.endswith(".csv") else beside(uri, ROWS_FILE)


def settings_file(uri: str) -> str | None:
    """What says which columns a prompt of RAFT shows; None where there is no such file."""
    above = beside(uri, "").rstrip("/").rpartition("/")[0]
    return next(filter(is_file, (beside(uri, SETTINGS_FILE), f"{above or '.'}/{SETTINGS_FILE}")), None)


def beside(uri: str, name: str) -> str:
    """Another file of the same folder."""
    return f"{uri.rpartition('/')[0] or '.'}/{name}"


def is_file(uri: str) -> bool:
    """Whether there is such a file or object."""
    return buckets.has_object(uri) if buckets.is_bucket(uri) else Path(uri).is_file()
