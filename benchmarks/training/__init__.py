"""The training engine beside its peers: every module here that has `run(options)`, which gives tables."""

import importlib
import pkgutil
from collections.abc import Iterator

from benchmarks.options import Options
from benchmarks.tables import Table


def names() -> list[str]:
    """Benchmarks of this group."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return [name for name in modules if hasattr(importlib.import_module(f"{__name__}.{name}"), "run")]


def run(options: Options, only: str = "") -> Iterator[Table]:
    """Run one benchmark, or all."""
    for name in names():
        if only in ("", name):
            yield from importlib.import_module(f"{__name__}.{name}").run(options)
