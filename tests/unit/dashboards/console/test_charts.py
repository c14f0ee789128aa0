"""The figures, read as the data they hold."""

import itertools
from typing import get_args

import pytest

from dashboards.console import charts
from dashboards.console.runs import Stage, State
from headrace.artifacts import Rule

PAGES = {"light": "#ffffff", "dark": "#171614", "older dark": "#0e1117"}


def stage(name: str, state: State, begins: float, seconds: float) -> Stage:
    return Stage(run_id=name, name=name, state=state, started=1000 + begins, seconds=seconds, metrics={}, digest="")


def luminance(colour: str) -> float:
    """Source: WCAG 2.2, relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    ("colour", "page"), itertools.product(sorted({*charts.COLOURS.values(), *charts.LINES}), PAGES.values())
)
def test_every_colour_stands_out_from_light_and_dark_pages(colour: str, page: str) -> None:
    lower, higher = sorted([luminance(colour), luminance(page)])
    assert (higher + 0.05) / (lower + 0.05) >= 3


def test_every_state_has_a_colour_of_its_own() -> None:
    assert set(charts.COLOURS) == set(get_args(State))
    assert len(set(charts.COLOURS.values())) == len(charts.COLOURS)


def test_bars_lie_where_and_as_long_as_their_stages_ran() -> None:
    stages = [
        stage("gather", "cached", 0, 0.1),
        stage("pretrain", "done", 5, 120),
        stage("evaluate", "failed", 125, 30),
    ]
    figure = charts.timeline(stages, started=1000)
    bars = {
        (y, bar.name): (base, x, text)
        for bar in figure.data
        for y, base, x, text in zip(bar.y, bar.base, bar.x, bar.text, strict=True)
    }
    assert bars == {
        ("gather", "cached"): (0, 0.1, "cached"),
        ("pretrain", "done"): (5, 120, "2 min 00 s"),
        ("evaluate", "failed"): (125, 30, "30 s"),
    }
    assert figure.layout.yaxis.categoryarray == ("gather", "pretrain", "evaluate")
    assert {bar.name: bar.marker.color for bar in figure.data}["failed"] == charts.COLOURS["failed"]
    assert figure.layout.xaxis.range[1] > 155


def test_long_runs_are_measured_in_hours() -> None:
    figure = charts.timeline([stage("pretrain", "running", 3600, 7200)], started=1000)
    assert (figure.data[0].base, figure.data[0].x) == ((1,), (2,))
    assert figure.layout.xaxis.title.text == "hours since the run began"


def test_differences_show_the_interval_of_every_rule_that_compared() -> None:
    numbers = {"difference": 0.35, "low": 0.3, "high": 0.42}
    better = Rule(name="beats champion", passed=True, reason="", numbers=numbers)
    worse = Rule(name="beats base", passed=False, reason="", numbers={"difference": -0.1, "low": -0.3, "high": 0.05})
    figure = charts.differences([Rule(name="floor", passed=True, reason="", numbers={"value": 1.0}), better, worse])
    assert figure is not None
    (points,) = figure.data
    assert (points.x, points.y) == ((0.35, -0.1), ("beats champion", "beats base"))
    ends = zip(points.x, points.error_x.arrayminus, points.error_x.array, strict=True)
    assert [(at - minus, at + plus) for at, minus, plus in ends] == [
        pytest.approx((0.3, 0.42)),
        pytest.approx((-0.3, 0.05)),
    ]
    assert points.marker.color == (charts.COLOURS["done"], charts.COLOURS["failed"])


def test_a_verdict_that_compared_nothing_has_no_chart() -> None:
    assert charts.differences([Rule(name="beats champion", passed=True, reason="There is no champion yet.")]) is None


def test_curves_have_a_line_for_each_stage() -> None:
    figure = charts.curves({"pretrain": [(10, 6.5), (20, 4.0)], "ul2": [(5, 3.0), (6, 2.5)]}, "loss")
    lines = {line.name: (line.x, line.y) for line in figure.data}
    assert lines == {"pretrain": ((10, 20), (6.5, 4.0)), "ul2": ((5, 6), (3.0, 2.5))}
    assert len({line.line.color for line in figure.data}) == 2
