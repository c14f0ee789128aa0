from pathlib import Path

import pytest
import yaml

from headrace.cli.app import run_app
from tests.project import ROOT, enter


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


def test_one_unknown_name_leaves_nothing_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enter(ROOT, monkeypatch)
    assert run_app(["compile", "release", "pretrain", "--output", str(tmp_path / "built")]) == 2
    assert "Did you mean 'pretraining'?" in capsys.readouterr().err
    assert not (tmp_path / "built").exists()
