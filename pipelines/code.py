"""What a task's answer depends on besides its inputs: the code that it imports, and the packages under it.

A component is a few lines; the work is in the library. A cached answer stands only while every module that
the component reaches still reads as it did, and every package that these import has its version.
"""

import ast
import functools
import hashlib
import importlib.metadata
import platform
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import headrace

LIBRARY = "headrace"
_parsing = threading.Lock()
"""CPython 3.11 miscounts its recursion where two threads parse at once, as the turns of a loop do."""


def code_version(source: str) -> str:
    """SHA-256 over everything that a component's source reaches within the library, and its packages.

    Args:
        source: Python text, such as a component's function.
    """
    modules = sorted(_reached(frozenset(_imported(source))))
    texts = [_text(name) for name in modules]
    roots = {name.partition(".")[0] for text in [source, *texts] for name in _imported(text)}
    packages = [f"{root} {_package_version(root)}" for root in sorted(roots - sys.stdlib_module_names - {LIBRARY})]
    parts = [platform.python_version(), *packages, *modules, *texts]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@functools.cache
def _reached(names: frozenset[str]) -> frozenset[str]:
    """Modules of the library that these names lead to, however indirectly."""
    found: set[str] = set()
    waiting = {module for name in names for module in _modules(name)}
    while waiting:
        found |= waiting
        waiting = {m for name in waiting for reached in _imported(_text(name)) for m in _modules(reached)} - found
    return frozenset(found)


def _modules(name: str) -> list[str]:
    """The module that an imported name is, or is in, with the packages around it."""
    parts = name.split(".")
    prefixes = [".".join(parts[: end + 1]) for end in range(len(parts))]
    return [prefix for prefix in prefixes if parts[0] == LIBRARY and _place(prefix) is not None]


@functools.cache
def _place(module: str) -> Path | None:
    """The file of a module of the library, found without importing it; None where it names something inside one."""
    base = Path(headrace.__file__).parent.joinpath(*module.split(".")[1:])
    return next((place for place in (base.with_suffix(".py"), base / "__init__.py") if place.is_file()), None)


@functools.cache
def _text(module: str) -> str:
    place = _place(module)
    return place.read_text() if place else ""


@functools.cache
def _imported(source: str) -> tuple[str, ...]:
    return tuple(_names(source))


def _names(source: str) -> Iterator[str]:
    """Every dotted name that `source` imports, inside functions too."""
    with _parsing:
        tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def _package_version(root: str) -> str:
    names = _distributions().get(root, [root])
    try:
        return importlib.metadata.version(names[0])
    except importlib.metadata.PackageNotFoundError:
        return "absent"


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())
