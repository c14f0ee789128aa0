from dataclasses import replace

import pytest

from headrace.cluster.slices import find_slice
from headrace.errors import ConfigError
from headrace.planner.advice import assumptions, make_plan
from headrace.planner.plan import Plan, Wishes
from headrace.training.config import TrainConfig
from pipelines.recipes.gptj_6b import gptj_6b
from pipelines.recipes.gptjt_6b import gptjt_6b

GPTJ, GPTJT = gptj_6b().pretraining, gptjt_6b().ul2


def plan(train: TrainConfig, name: str, **wishes) -> Plan:
    return make_plan(train, find_slice(name), wishes=Wishes(**wishes))


def test_gptj_on_the_slice_that_trained_it_is_as_fast_and_as_much_work_as_published() -> None:
    told = plan(GPTJ, "v3-256", recompute="layers")  # as it was
    assert told.forecast.tokens_per_second == pytest.approx(150_000, rel=0.05)
    assert told.forecast.steps * told.forecast.work.flops == pytest.approx(1.5e22, rel=0.02)
    assert told.forecast.steps * told.forecast.work.tokens == pytest.approx(402e9, rel=0.01)
    assert 25 < told.forecast.total_seconds / 86_400 < 40  # it took about five weeks, pauses included


def test_gptjt_takes_its_published_tokens_and_a_hundredth_of_gptjs_work() -> None:
    recipe = gptjt_6b()
    told = [plan(train, "h200x8") for train in (recipe.ul2, recipe.instruct)]
    tokens = [one.forecast.steps * one.forecast.work.tokens for one in told]
    assert tokens == [pytest.approx(2.62e9, rel=0.01), pytest.approx(0.92e9, rel=0.01)]
    assert sum(one.forecast.steps * one.forecast.work.flops for one in told) == pytest.approx(1.34e20, rel=0.02)


def test_six_billion_parameters_are_trained_on_one_h200_and_not_on_one_h100() -> None:
    assert 90 * 2**30 < plan(GPTJT, "h200x1").memory.total < 132 * 2**30
    with pytest.raises(ConfigError, match=r"GiB on each device of h100x1, and 94% of its 80.0 GiB.*--slice h200x1\.$"):
        plan(GPTJT, "h100x1")


def test_the_layout_of_gptjt_is_planned_as_asked() -> None:
    told = plan(GPTJT, "h100x8", mesh="data=4,pipeline=2", recompute="layers")
    assert told.forecast.idle_share == pytest.approx(1 / 17)
    assert told.memory.weights == pytest.approx(6_050_882_784 * 4 / 8)


def test_a_replica_with_fewer_rows_than_a_microbatch_is_planned_by_its_rows() -> None:
    memory = [plan(replace(GPTJT, microbatch_rows=rows), "h200x8", mesh="data=8").memory for rows in (8, 16, 64)]
    assert memory[0] == memory[1] == memory[2]


def test_a_run_that_fits_nowhere_near_is_told_every_way_to_fit_and_each_is_true() -> None:
    wishes = Wishes(recompute="none")
    with pytest.raises(ConfigError) as refused:
        make_plan(GPTJ, find_slice("h100x8"), wishes=wishes)
    told = str(refused.value)
    assert "takes 80.1 GiB on each device of h100x8" in told
    assert "--recompute selective, or train.microbatch_rows=4, or --slice h200x" in told
    assert plan(GPTJ, "h100x8", recompute="selective").fits
    assert plan(replace(GPTJ, microbatch_rows=4), "h100x8", recompute="none").fits
    assert plan(GPTJ, told.rpartition("--slice ")[2].rstrip("."), recompute="none").fits


def test_microbatches_are_lowered_as_far_as_it_takes_and_another_slice_may_be_laid_out_anew() -> None:
    wishes = Wishes(recompute="none", mesh="data=8")
    with pytest.raises(ConfigError, match=r"It fits with train.microbatch_rows=1, or --slice h200x4\.$"):
        make_plan(GPTJ, find_slice("l4x8"), wishes=wishes)


def test_what_no_slice_holds_is_a_smaller_models_matter() -> None:
    vast = replace(GPTJT, model=replace(GPTJT.model, d_model=2**17, d_ff=2**19, n_head=512))
    with pytest.raises(ConfigError, match="Configure a smaller model"):
        plan(vast, "h100x1")


def test_cost_is_device_hours_at_the_price_and_the_user_has_the_last_word() -> None:
    told = plan(GPTJT, "h100x8", dollars_per_hour=2.0, utilization=0.5)
    assert told.device_hours == pytest.approx(told.forecast.total_seconds * 8 / 3600)
    assert told.dollars == pytest.approx(2.0 * told.device_hours)
    assert told.forecast.mfu == pytest.approx(0.5)
    assert plan(GPTJT, "h100x8").dollars > told.dollars


def test_a_plan_says_what_it_stands_on() -> None:
    wishes = Wishes()
    told = " ".join(assumptions(GPTJ, plan(GPTJ, "v4-256"), None, wishes))
    for part in ("not measured", "HEADRACE_RECOMPUTE=layers", "PaLM", "$3.22 a device-hour", "--price changes it"):
        assert part in told
    assert "not calibrated" in " ".join(
        assumptions(GPTJ, replace(plan(GPTJ, "v4-256"), where=find_slice("cpu")), None, wishes)
    )


@pytest.mark.parametrize("wish", [{"utilization": 0.0}, {"utilization": 1.5}, {"dollars_per_hour": -1.0}])
def test_a_wish_that_means_nothing_is_refused(wish) -> None:
    with pytest.raises(ConfigError, match="Give"):
        Wishes(**wish)


def test_tiles_are_refused_where_there_is_no_cpu_to_cut_them() -> None:
    with pytest.raises(ConfigError, match="--attention tiles is a CPU's, and h100x1 is none"):
        plan(GPTJ, "h100x1", attention="tiles")
