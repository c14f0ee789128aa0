from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.cli.app import run_app
from tests.project import ROOT, enter


def tasks(specification: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Those that run a component, within every condition and loop; KFP sets no caching for the others."""
    for graph in (specification["root"], *specification["components"].values()):
        for name, task in graph.get("dag", {}).get("tasks", {}).items():
            if "dag" not in specification["components"][task["componentRef"]["name"]]:
                yield name, task


def test_a_chain_is_compiled_alone_and_hyphens_name_it_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enter(ROOT, monkeypatch)
    assert run_app(["compile", "end-to-end", "--output", str(tmp_path / "[built]")]) == 0
    (place,) = (tmp_path / "[built]").iterdir()
    assert place.name == "end_to_end.yaml"
    assert capsys.readouterr().out == f"end-to-end → {place}\n"
    specification, _ = yaml.safe_load_all(place.read_text())
    assert specification["pipelineInfo"]["name"] == "end-to-end"


@pytest.mark.parametrize(
    ("chain", "answering"),
    [("end-to-end", {"tokenize", "pretrain", "evaluate", "evaluate-2", "deploy"}), ("release", {"evaluate", "deploy"})],
)
def test_a_clusters_cache_does_not_answer_for_what_asks_the_world(
    chain: str, answering: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file under the same name, another champion: that cache asks nobody whether it still holds."""
    enter(ROOT, monkeypatch)
    assert run_app(["compile", chain, "--output", str(tmp_path)]) == 0
    specification, _ = yaml.safe_load_all((tmp_path / f"{chain.replace('-', '_')}.yaml").read_text())
    cached = {name: task.get("cachingOptions", {}).get("enableCache", False) for name, task in tasks(specification)}
    asked = {"gather", "evaluate-incumbent", "gate", "promote", "close"} | {name for name in cached if "fetch" in name}
    assert {name for name, answers in cached.items() if not answers} == asked
    assert answering <= cached.keys()
    assert chain != "release" or {"fetch", "fetch-2"} <= asked


def test_one_unknown_name_leaves_nothing_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enter(ROOT, monkeypatch)
    assert run_app(["compile", "release", "pretrain", "--output", str(tmp_path / "built")]) == 2
    assert "Did you mean 'pretraining'?" in capsys.readouterr().err
    assert not (tmp_path / "built").exists()
