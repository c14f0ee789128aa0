import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the packages under `root`, with its configuration."""
    return subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}", "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("copy")
    for name in ("src", "components", "pipelines"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "pyproject.toml", root / "pyproject.toml")
    return root


def test_the_repository_keeps_its_layers() -> None:
    found = lint(ROOT)
    assert found.returncode == 0, found.stdout
    assert " 0 broken" in found.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("src/headrace/config.py", "from headrace.training import loop", "Imports run downward only"),
        ("src/headrace/data/shards.py", "import headrace.models.gptj", "Imports run downward only"),
        ("components/data/__init__.py", "import pipelines.recipe", "Imports run downward only"),
        ("components/registry/promote.py", "import components.evaluation.gate", "No component imports another"),
        ("src/headrace/storage.py", "import kfp", "The library never imports the orchestrator"),
        ("src/headrace/evaluation/config.py", "import mlflow", "MLflow stays in tracking and registry"),
    ],
)
def test_an_import_that_breaks_a_rule_is_found_even_within_a_function(
    copy: Path, file: str, line: str, contract: str
) -> None:
    whole = (copy / file).read_text()
    (copy / file).write_text(f"{whole}\n\ndef _late() -> None:\n    {line}\n")
    try:
        found = lint(copy)
    finally:
        (copy / file).write_text(whole)
    assert found.returncode == 1
    assert f"{contract} BROKEN" in found.stdout, found.stdout + found.stderr
    assert found.stdout.count(" BROKEN") == 1
