import json
import subprocess
from pathlib import Path

import pytest

import headrace
from headrace import registry
from headrace.registry import lineage
from tests.candidates import Candidates

ROOT = Path(__file__).parents[3]


def test_a_version_says_which_run_parents_data_of_every_stage_code_and_image_it_comes_from(
    candidates: Candidates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_REVISION", "abc123")
    monkeypatch.setenv("HEADRACE_BUILT_AS", "registry.example/headrace:7")
    lineage.revision.cache_clear()
    candidates.promote(1)
    lineage.revision.cache_clear()
    tags = registry.resolve("gptj/1").tags
    assert json.loads(tags[lineage.PARENTS]) == {"tokenizer": "0" * 64, "shards_text": "1" * 64}
    assert json.loads(tags[lineage.DATA]) == [{"pile": "2" * 64}, {"text": "1" * 64}]
    assert tags[lineage.PIPELINE] == "run-1"
    assert (tags[lineage.REVISION], tags[lineage.IMAGE]) == ("abc123", "registry.example/headrace:7")


def test_a_revision_is_the_checkouts_commit_and_tells_whether_files_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEADRACE_REVISION", raising=False)
    package = tmp_path / "headrace"
    package.mkdir()
    (package / "__init__.py").write_text("1\n")
    monkeypatch.setattr(headrace, "__file__", str(package / "__init__.py"))

    def revision() -> str:
        lineage.revision.cache_clear()
        return lineage.revision()

    def git(*arguments: str) -> str:
        name = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        return subprocess.run(
            ["git", *name, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    assert revision() == f"headrace {headrace.__version__}"
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "none of its files")
    assert revision() == f"headrace {headrace.__version__}"
    git("add", ".")
    git("commit", "-q", "-m", "its files")
    assert revision() == git("rev-parse", "HEAD")
    (package / "__init__.py").write_text("2\n")
    assert revision() == f"{git('rev-parse', 'HEAD')}+changed"
    lineage.revision.cache_clear()
