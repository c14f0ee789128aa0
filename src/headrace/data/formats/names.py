"""What the name of a file says about the documents in it."""

import re

SUFFIXES = (".jsonl.zst", ".jsonl", ".json", ".tsv", ".txt")
TASK = re.compile(r"task\d+")
SPLIT = re.compile(r"_(train|test|val|validation|dev)$")


def stem(file: str) -> str:
    """The last part of a path or URI without its suffix; of a hub's `hub:NAME/CONFIG:SPLIT`, the configuration."""
    name = file.rsplit("/", 1)[-1]
    if file.startswith("hub:"):
        return name.removeprefix("hub:").partition(":")[0]
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def without_split(name: str) -> str:
    """`creak` out of `creak_train`."""
    return SPLIT.sub("", name)


def task_name(file: str) -> str:
    """The Natural-Instructions task a file is of: by its own name or, as in `task363_sst2/train.json`, its folder's."""
    own = stem(file)
    folder = file.rsplit("/", 2)[-2] if file.count("/") else ""
    return folder if TASK.match(folder) and not TASK.match(own) else own
