"""Groups of benchmarks: packages here whose modules have `run(options)`, which gives tables."""

import importlib
import pkgutil
from collections.abc import Iterator

from benchmarks.options import Options
from benchmarks.tables import Table

GROUPS = ("data", "evaluation", "training")


def names(group: str) -> list[str]:
    """Benchmarks of a group."""
    package = importlib.import_module(f"benchmarks.{group}")
    modules = (module.name for module in pkgutil.iter_modules(package.__path__))
    return [name for name in modules if hasattr(importlib.import_module(f"benchmarks.{group}.{name}"), "run")]


def run(group: str, options: Options, only: str = "") -> Iterator[Table]:
    """Run one benchmark of a group, or all."""
    for name in names(group):
        if only in ("", name):
            yield from importlib.import_module(f"benchmarks.{group}.{name}").run(options)
