"""Files and directories that appear whole: staged beside their name, then moved to it in one step.

A process killed at any instant leaves the old content or the new. What it had staged stays behind as
`NAME.partial-*` until the next writer of NAME, which knows by a lock that nobody is at work there.
"""

import contextlib
import ctypes
import fcntl
import glob
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

PARTIAL = ".partial-"
EXCHANGE = 2
"""`RENAME_EXCHANGE` of Linux's renameat2: two names swap what they stand for."""
WORKING_DIRECTORY = -100
"""`AT_FDCWD`."""


@contextlib.contextmanager
def staging(target: Path) -> Iterator[Path]:
    """Give a directory beside `target` to fill; whatever bears its name at the end is removed.

    What killed writers of the same target left behind is removed first.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    path, lock = _claim(target)
    try:
        path.chmod(0o755)
        yield path
    finally:
        remove(path)
        os.close(lock)


def _claim(target: Path) -> tuple[Path, int]:
    """Make a staging directory and lock it; a sweep may take it away before it is locked."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=f"{target.name}{PARTIAL}", dir=target.parent))
        try:
            lock = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        with contextlib.suppress(OSError):  # some network file systems know no locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return path, lock
        os.close(lock)


def _sweep(target: Path) -> None:
    for leftover in target.parent.glob(f"{glob.escape(target.name)}{PARTIAL}*"):
        with contextlib.suppress(OSError):  # gone already, or locked by its writer
            lock = os.open(leftover, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(leftover)
            finally:
                os.close(lock)


def remove(path: Path) -> None:
    """Remove a file or a whole directory, as far as it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def publish(staged: Path, target: Path) -> None:
    """Move a finished directory to its name in one step; `staged` then stands for what was there before.

    Where the file system cannot exchange two names (some network file systems), two steps are needed,
    and a kill in between leaves nothing at `target`.
    """
    sync_tree(staged)
    try:
        staged.rename(target)
    except OSError:
        if not target.exists():
            raise
        if not _exchange(staged, target):
            _swap(staged, target)
    _sync(target.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where this system cannot."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 is None:
        return False
    return not renameat2(WORKING_DIRECTORY, os.fsencode(one), WORKING_DIRECTORY, os.fsencode(other), EXCHANGE)


def _swap(staged: Path, target: Path) -> None:
    aside = Path(tempfile.mkdtemp(prefix=f"{target.name}{PARTIAL}", dir=target.parent))
    target.rename(aside / "old")
    try:
        staged.rename(target)
    except OSError:
        (aside / "old").rename(target)
        raise
    finally:
        remove(aside)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace a small file in one step: a reader sees the old text or the new, never a mixture.

    Args:
        path: The file; its directory is made where it is missing.
        text: Written as UTF-8.
        durable: Whether the text must survive a power failure, which takes a while on a busy disk.
    """
    with _replacing(path, durable) as partial:
        partial.write_text(text, encoding="utf-8")


def copy_file(source: Path, target: Path) -> None:
    """Replace a file by a copy of another in one step; who holds the old one open writes to nothing that has a name."""
    with _replacing(target, durable=True) as partial:
        shutil.copyfile(source, partial)


@contextlib.contextmanager
def _replacing(path: Path, durable: bool) -> Iterator[Path]:
    """Give a name to write to; the file takes the place of `path` once it is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}{PARTIAL}{os.getpid()}-{threading.get_ident()}")
    try:
        yield partial
        if durable:
            _sync(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if durable:
        _sync(path.parent)


def sync_tree(directory: Path) -> None:
    """Bring every file under `directory`, and the names of all of them, to the disk."""
    for path in directory.rglob("*"):
        _sync(path)
    _sync(directory)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
