"""What a project directory offers: its pipelines and recipes, found by name.

A command works in the directory it is called from, which holds `pipelines/`; the library itself imports
nothing above it.
"""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headrace.config import nearest, override
from headrace.errors import ConfigError

CHAIN = "@dsl.pipeline"
"""What tells a chain from the modules that help chains, without importing either."""


def _root() -> Path:
    root = Path.cwd()
    if not (root / "pipelines").is_dir():
        raise ConfigError(f"{root} holds no pipelines/ directory. Change to a project directory first.")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return root


def _modules(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def pipeline_names() -> list[str]:
    """Names of the chains in `pipelines/`."""
    folder = _root() / "pipelines"
    return [name for name in _modules(folder) if CHAIN in (folder / f"{name}.py").read_text()]


def recipe_names() -> list[str]:
    """Names of the recipes in `pipelines/recipes/`."""
    return _modules(_root() / "pipelines" / "recipes")


def load(module: str) -> Any:
    """Import a module of the project, such as `pipelines.embedded`."""
    _root()
    return importlib.import_module(module)


def load_pipeline(name: str) -> Any:
    """Import a chain by its name; hyphens may stand for underscores.

    Raises:
        ConfigError: There is no such chain; the message names the nearest.
    """
    wanted = name.replace("-", "_")
    if wanted not in pipeline_names():
        raise ConfigError(f"There is no pipeline {name!r}. {nearest(wanted, pipeline_names())}")
    return getattr(load(f"pipelines.{wanted}"), wanted)


def load_recipe(name: str, assignments: Sequence[str] = ()) -> Any:
    """Call a recipe by its name and apply `section.key=value` assignments to what it returns.

    Raises:
        ConfigError: The recipe, a section or a key is unknown, or a value has another type.
    """
    wanted = name.replace("-", "_")
    if wanted not in recipe_names():
        raise ConfigError(f"There is no recipe {name!r}. {nearest(wanted, recipe_names())}")
    recipe = getattr(load(f"pipelines.recipes.{wanted}"), wanted)()
    for assignment in assignments:
        recipe = override(recipe, assignment)
    return recipe
