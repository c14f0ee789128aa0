"""Plotly figures, in colours that can be told apart on light and on dark pages."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from dashboards.console.runs import Stage
from dashboards.console.words import duration
from headrace.artifacts import Rule

COLOURS = {"running": "#c77700", "done": "#2f9e5f", "cached": "#6b7fa8", "failed": "#d64550", "stopped": "#8a8a8a"}
"""Of the states of a run; each has a contrast of 3 or more with white and with Streamlit's dark page."""

LINES = ("#2f7fd0", "#c77700", "#2f9e5f", "#b05fb0", "#d64550", "#8a8a8a")
"""Of curves, in order."""

PLAIN = {"displayModeBar": False}
"""How Streamlit is to draw them: without a row of tools above each."""

ROW_PIXELS = 34
HOUR_SECONDS = 3600


def timeline(stages: Sequence[Stage], started: float) -> go.Figure:
    """When each stage ran, as bars over the time since the pipeline began.

    Args:
        stages: In the order of the rows, top to bottom.
        started: When the pipeline began, Unix time.
    """
    longest = max((stage.started + stage.seconds - started for stage in stages), default=0.0)
    unit, seconds = ("hours", HOUR_SECONDS) if longest > 2 * HOUR_SECONDS else ("seconds", 1)
    figure = go.Figure()
    for state in dict.fromkeys(stage.state for stage in stages):
        figure.add_bar(**_bars([stage for stage in stages if stage.state == state], state, started, seconds))
    figure.update_layout(
        height=110 + ROW_PIXELS * len(stages),
        margin={"l": 0, "r": 0, "t": 30, "b": 0},
        bargap=0.35,
        barmode="overlay",
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        showlegend=True,
    )
    figure.update_xaxes(title=f"{unit} since the run began", range=[0, 1.15 * max(longest, 1) / seconds])
    names = list(dict.fromkeys(stage.name for stage in stages))
    figure.update_yaxes(categoryorder="array", categoryarray=names, autorange="reversed", automargin=True)
    return figure


def _bars(stages: Sequence[Stage], state: str, started: float, unit: float) -> dict[str, Any]:
    """The bars of all stages in one state; a stage that took no time still shows as a sliver."""
    said = [state if state == "cached" else duration(stage.seconds) for stage in stages]
    return {
        "name": state,
        "orientation": "h",
        "y": [stage.name for stage in stages],
        "base": [max(0.0, stage.started - started) / unit for stage in stages],
        "x": [stage.seconds / unit for stage in stages],
        "text": said,
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": COLOURS[state], "line": {"color": COLOURS[state], "width": 2}},
        "hovertemplate": "%{y}: %{text}<extra></extra>",
    }


def differences(rules: Sequence[Rule]) -> go.Figure | None:
    """By how much the candidate was better, with its confidence interval, for every rule that compared.

    Returns:
        None where no rule compared the candidate with another model.
    """
    compared = [rule for rule in rules if {"difference", "low", "high"} <= rule.numbers.keys()]
    if not compared:
        return None
    values = [rule.numbers["difference"] for rule in compared]
    interval = {
        "type": "data",
        "symmetric": False,
        "array": [rule.numbers["high"] - rule.numbers["difference"] for rule in compared],
        "arrayminus": [rule.numbers["difference"] - rule.numbers["low"] for rule in compared],
        "color": COLOURS["stopped"],
    }
    colours = [COLOURS["done" if rule.passed else "failed"] for rule in compared]
    names = [rule.name for rule in compared]
    figure = go.Figure()
    figure.add_scatter(x=values, y=names, error_x=interval, mode="markers", marker={"size": 11, "color": colours})
    figure.add_vline(x=0, line={"color": COLOURS["stopped"], "dash": "dot"})
    figure.update_layout(height=90 + ROW_PIXELS * len(compared), margin={"l": 0, "r": 0, "t": 10, "b": 0})
    figure.update_xaxes(title="difference; right of the line the candidate is better", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure


def curves(points: Mapping[str, Sequence[tuple[int, float]]], metric: str) -> go.Figure:
    """A metric over optimizer steps, a line for each stage.

    Args:
        points: Step and value, by stage.
        metric: Its name, the title of the axis.
    """
    figure = go.Figure()
    for at, (name, pairs) in enumerate(points.items()):
        steps, values = zip(*pairs, strict=True)
        figure.add_scatter(
            x=steps, y=values, name=name, mode="lines", line={"color": LINES[at % len(LINES)], "width": 2}
        )
    figure.update_layout(
        height=340,
        margin={"l": 0, "r": 0, "t": 30, "b": 0},
        hovermode="x unified",
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        showlegend=True,
    )
    figure.update_xaxes(title="step")
    figure.update_yaxes(title=metric.replace("_", " "))
    return figure
