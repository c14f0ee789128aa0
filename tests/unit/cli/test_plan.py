import json
from pathlib import Path

import pytest

from headrace.cli.app import run_app
from headrace.planner import calibration as calibrations
from headrace.planner.calibration import fit
from headrace.planner.measure import Measured
from headrace.planner.shapes import SHAPES
from tests.project import ROOT, enter


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository's recipes, and a home in which nothing was measured yet."""
    enter(ROOT, monkeypatch)
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def keep_calibration(home: Path) -> None:
    """As if every shape had run for a second."""
    ran = Measured(peak_bytes=10**9, wall_seconds=1.0, core_seconds=1.0, threads=1)
    calibrations.save(fit(ran, SHAPES, [ran] * len(SHAPES)), home / calibrations.FILE)


def test_a_plan_shows_memory_time_cost_and_what_they_stand_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(["plan", "gptj_6b", "--slice", "h200x8"]) == 0
    told = capsys.readouterr().out
    for part in ("gptj_6b · pretraining", "activations", "█", "tokens/s", "MFU 46%", "days", " · $", "--price changes"):
        assert part in told


def test_a_plan_for_scripts_has_every_stage_and_their_sum(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(["plan", "gptjt-6b", "--slice", "v4-256", "--json", "--price", "1"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["stages"]) == {"ul2", "instruct"}
    assert told["total"]["tokens"] == 27_000 * 64 * 2048
    ul2 = told["stages"]["ul2"]
    assert ul2["memory_bytes"]["total"] == sum(
        size for part, size in ul2["memory_bytes"].items() if part not in ("total", "of")
    )
    assert ul2["dollars"] == pytest.approx(ul2["device_hours"])
    assert told["total"]["dollars"] == pytest.approx(ul2["dollars"] + told["stages"]["instruct"]["dollars"])


def test_a_stage_and_values_are_chosen_as_for_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["--stage", "ul2", "--set", "ul2.steps=10", "--set", "ul2.microbatch_rows=2"]
    assert run_app(["plan", "gptjt_6b", "--slice", "h100x8", "--mesh", "tensor=2", *chosen, "--json"]) == 0
    (stage,) = json.loads(capsys.readouterr().out)["stages"].values()
    assert stage["steps"] == 10
    assert stage["execution"]["layout"] == {"data": 4, "tensor": 2, "pipeline": 1, "apart": False}


def test_this_machine_has_a_time_once_it_is_calibrated(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(["plan", "demo", "--stage", "ul2"]) == 0
    told = capsys.readouterr().out
    assert "how long they take is not known" in told
    assert "headrace plan --calibrate" in told
    keep_calibration(project)
    assert run_app(["plan", "demo", "--stage", "ul2", "--json"]) == 0
    (stage,) = json.loads(capsys.readouterr().out)["stages"].values()
    assert stage["seconds"] > 0
    assert stage["memory_bytes"]["baseline"] == 10**9
    assert stage["dollars"] is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["gptj_6b", "--slice", "h100x3"], "There is no slice 'h100x3'. Did you mean 'h100x"),
        (["gptj"], "There is no recipe 'gptj'. Did you mean 'gptj_6b'?"),
        (["gptj_6b", "--stage", "ul2"], "The recipe 'gptj_6b' has no stage 'ul2'"),
        (["gptj_6b", "--slice", "h100x1"], "of h100x1, and 94% of its 80.0 GiB may be filled. It fits with"),
        (["gptj_6b", "--slice", "cpu"], "on each device of cpu"),
        (
            ["gptj_6b", "--slice", "h100x8", "--mesh", "data=3"],
            "--mesh='data=3' lays out 3 processes or XLA devices",
        ),
        (["gptj_6b", "--recompute", "layer"], "--recompute 'layer' is not a choice. Did you mean 'layers'?"),
        (["gptj_6b", "--set", "pretraining.stps=3"], "has no key 'stps'. Did you mean 'steps'?"),
        ([], "A plan is of a recipe. Name one, or give --calibrate."),
    ],
)
def test_what_cannot_be_planned_is_the_users_mistake_in_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app(["plan", *arguments]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_for_people_the_stages_are_summed_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(["plan", "gptjt_6b", "--slice", "v4-256", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    total = planned["total"]
    for key in ("seconds", "dollars"):
        assert total[key] == pytest.approx(sum(stage[key] for stage in planned["stages"].values()))
    assert run_app(["plan", "gptjt_6b", "--slice", "v4-256"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("all stages: ")]
    assert line.endswith(f" · ${total['dollars']:,.0f}")
    assert f"{total['seconds'] / 3600:.0f}" in line or f"{total['seconds'] / 86_400:,.1f} days" in line
    assert run_app(["plan", "demo", "--slice", "cpu"]) == 0
    assert "all stages: unknown\n" in capsys.readouterr().out
