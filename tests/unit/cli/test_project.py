import dataclasses
from pathlib import Path

import pytest

from headrace.cli import project
from headrace.errors import ConfigError
from tests.project import ROOT, enter


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    enter(ROOT, monkeypatch)


def test_chains_and_recipes_are_found_and_their_helpers_are_not_mistaken_for_them() -> None:
    assert project.pipeline_names() == [
        "end_to_end",
        "finetuning",
        "prepare",
        "pretraining",
        "release",
    ]
    assert {"demo", "gptj_6b"} <= set(project.recipe_names())
    for name in project.pipeline_names():
        assert project.load_pipeline(name.replace("_", "-")).name == name.replace("_", "-")


def test_an_assignment_changes_one_value_of_a_recipe_and_nothing_else() -> None:
    demo = project.load_recipe("demo")
    changed = project.load_recipe("demo", ["pretraining.steps=601", "model=other"])
    expected = dataclasses.replace(demo, model="other", pretraining=dataclasses.replace(demo.pretraining, steps=601))
    assert changed == expected != demo


def test_a_project_of_ones_own_is_used_in_its_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pipelines" / "recipes").mkdir(parents=True)
    (tmp_path / "pipelines" / "__init__.py").write_text("")
    (tmp_path / "pipelines" / "recipes" / "mine.py").write_text("def mine():\n    return 'mine'\n")
    enter(tmp_path, monkeypatch)
    assert project.recipe_names() == ["mine"]
    assert project.load_recipe("mine") == "mine"
    with pytest.raises(ConfigError, match="no recipe 'demo'"):
        project.load_recipe("demo")
