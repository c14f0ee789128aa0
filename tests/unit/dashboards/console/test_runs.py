"""Runs and stages read back from a real store."""

from typing import Any

import pytest

from dashboards.console import runs


@pytest.fixture
def by_name(store: Any) -> dict[str, runs.PipelineRun]:
    return {run.name: run for run in runs.pipeline_runs()}


def test_a_store_that_nobody_wrote_to_has_no_runs(empty_store: None) -> None:
    assert runs.pipeline_runs() == []


def test_pipeline_runs_come_newest_first_without_their_stages(by_name: dict[str, runs.PipelineRun]) -> None:
    assert list(by_name) == ["third-run", "second-run", "first-run"]
    assert [run.state for run in by_name.values()] == ["running", "failed", "done"]
    first = by_name["first-run"]
    assert (first.pipeline, first.recipe, first.seconds) == ("end_to_end", "demo", 480)


def test_only_so_many_runs_are_read(store: Any) -> None:
    assert [run.name for run in runs.pipeline_runs(limit=1)] == ["third-run"]


def test_one_run_can_be_looked_at_again(by_name: dict[str, runs.PipelineRun]) -> None:
    first = by_name["first-run"]
    assert runs.pipeline_run(first.run_id) == first


def test_a_run_under_way_has_lasted_until_now(by_name: dict[str, runs.PipelineRun]) -> None:
    again = runs.pipeline_run(by_name["third-run"].run_id)
    assert again.seconds >= by_name["third-run"].seconds > 0


def test_stages_come_in_the_order_they_began(by_name: dict[str, runs.PipelineRun]) -> None:
    first = by_name["first-run"]
    stages = runs.stages(first)
    assert [stage.name for stage in stages] == ["gather", "pretrain", "evaluate"]
    assert [stage.started - first.started for stage in stages] == pytest.approx([0, 10, 170])
    assert [stage.seconds for stage in stages] == pytest.approx([9.5, 150, 40])
    assert {stage.state for stage in stages} == {"done"}
    assert stages[2].metrics == {"facts_heldout/exact_match": 0.8725}


def test_a_cached_stage_shows_what_was_measured_when_it_was_computed(by_name: dict[str, runs.PipelineRun]) -> None:
    cached, failed = runs.stages(by_name["second-run"])
    computed = runs.stages(by_name["first-run"])[1]
    assert (cached.state, failed.state) == ("cached", "failed")
    assert (cached.metrics, cached.digest) == (computed.metrics, "a1" * 32)
    assert runs.curves([cached], "loss") == runs.curves([computed], "loss")


def test_a_cached_stage_outlives_the_run_that_computed_it(store: Any) -> None:
    parent = store.pipeline("fourth-run", begins=-100, seconds=1)
    store.stage(parent, "pretrain", begins=-100, seconds=0, cached="true", computed_by="0" * 32)
    (cached,) = runs.stages(runs.pipeline_run(parent))
    assert (cached.state, cached.metrics) == ("cached", {})


def test_curves_are_of_the_stages_that_measured_over_steps(by_name: dict[str, runs.PipelineRun]) -> None:
    stages = runs.stages(by_name["first-run"])
    assert runs.measured_in_steps(stages) == ["loss", "tokens_per_second"]
    assert runs.curves(stages, "loss") == {"pretrain": [(10, 6.5), (20, 4.0), (30, 3.1)]}
    assert runs.curves(stages, "facts_heldout/exact_match") == {}


def test_attempts_at_a_stage_are_one_stage_and_one_curve(store: Any) -> None:
    parent = store.pipeline("resumed", begins=5000, seconds=90)
    stopped = store.stage(parent, "pretrain", begins=5000, seconds=30, status="FAILED")
    resumed = store.stage(parent, "pretrain", begins=5040, seconds=30)
    store.metric(stopped, "loss", [6.0, 5.0])
    for step, value in ((20, 5.0), (30, 4.0)):
        store.client.log_metric(resumed, "loss", value, step=step)
    stages = runs.stages(runs.pipeline_run(parent))
    assert [stage.state for stage in stages] == ["failed", "done"]
    assert [(stage.name, stage.state) for stage in runs.latest(stages)] == [("pretrain", "done")]
    assert runs.curves(stages, "loss") == {"pretrain": [(10, 6.0), (20, 5.0), (30, 4.0)]}


def test_runs_are_found_as_the_tracker_of_pipelines_writes_them(store: Any) -> None:
    from headrace import tracking

    parent = tracking.parent_run("tracked", {"headrace.pipeline": "pretraining", "headrace.recipe": "demo"})
    nested = tracking.nested_run("tracked", "pretrain")
    tracking.TaskRun(nested, "pretrain").metrics({"loss": 2.5}, step=1)
    tracking.record_cached("tracked", "pretrain-again", nested)
    tracking.close_pipeline("tracked", "FAILED")
    run = runs.pipeline_run(parent)
    assert (run.name, run.pipeline, run.recipe, run.state) == ("tracked", "pretraining", "demo", "failed")
    states = {stage.name: (stage.state, stage.metrics) for stage in runs.stages(run)}
    assert states == {"pretrain": ("stopped", {"loss": 2.5}), "pretrain-again": ("cached", {"loss": 2.5})}
