"""A PostgreSQL of a test's own, where its programs and a driver are installed."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.processes import free_port


def _program(name: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    path = str(found[-1]) if found else shutil.which(name)
    if path is None:
        pytest.skip(f"PostgreSQL's {name} is not installed")
    return path


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The URI of an empty database, for SQLAlchemy; it ends with the block."""
    if find_spec("psycopg2") is None:
        pytest.skip("psycopg2 is not installed")
    initdb, postgres = _program("initdb"), _program("postgres")
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    with tempfile.TemporaryDirectory(prefix="headrace-postgres-") as name:
        folder = Path(name)
        if user:
            shutil.chown(folder, user)
        options: dict[str, object] = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL}
        options["stderr"] = subprocess.DEVNULL
        subprocess.run([initdb, "-D", folder / "data", "-U", "headrace", "-A", "trust", "-N"], check=True, **options)
        port = free_port()
        command = [postgres, "-D", folder / "data", "-p", str(port), "-k", folder, "-h", "127.0.0.1", "-F"]
        process = subprocess.Popen(command, **options)
        try:
            yield f"postgresql+psycopg2://headrace@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()
            process.wait(30)
