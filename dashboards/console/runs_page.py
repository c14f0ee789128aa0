"""The page of runs: what ran, for how long, what the cache answered, and how the loss fell."""

import streamlit as st

from dashboards.console import charts, runs
from dashboards.console.runs import PipelineRun, Stage
from dashboards.console.words import duration, escape, moment, number, unsigned
from headrace.tracking import tracking_uri

NO_RUNS = """
**No pipeline has run here yet.** Run one, and its stages appear while it works:

```
headrace run end_to_end --recipe demo
```
"""
REFRESH_SECONDS = 5


def draw() -> None:
    """Let one run be chosen and show it; a run that goes on is looked at again every few seconds."""
    st.header("Runs")
    with st.spinner("Reading MLflow"):
        found = runs.pipeline_runs()
    if not found:
        st.info(NO_RUNS)
        st.caption(escape(f"Reading {unsigned(tracking_uri())}"))
        return
    by_id = {run.run_id: run for run in found}
    chosen = st.selectbox("Run", list(by_id), format_func=lambda run_id: label(by_id[run_id]))
    going_on = by_id[chosen].state == "running"
    st.fragment(show, run_every=REFRESH_SECONDS if going_on else None)(chosen, going_on)
    with st.expander(f"All runs ({len(found)})"):
        st.dataframe([row(run) for run in found], hide_index=True)


def label(run: PipelineRun) -> str:
    """A run in one line."""
    return " · ".join(part for part in (run.pipeline, run.recipe, moment(run.started), run.state) if part)


def row(run: PipelineRun) -> dict[str, str]:
    """A run as a row of the table of all runs."""
    return {
        "pipeline": run.pipeline,
        "recipe": run.recipe,
        "started": moment(run.started),
        "took": duration(run.seconds),
        "state": run.state,
        "run": run.name,
    }


def show(run_id: str, watched: bool = False) -> None:
    """One run: numbers, timeline, curves, and what each stage measured."""
    run = runs.pipeline_run(run_id)
    if watched and run.state != "running":
        st.rerun()  # it has ended, and the page no longer needs to look again
    stages = runs.stages(run)
    show_numbers(run, stages)
    if not stages:
        st.info("No stage has begun.")
        return
    st.subheader("Stages")
    st.plotly_chart(charts.timeline(stages, run.started), key="timeline", config=charts.PLAIN)
    show_curves(stages)
    show_measured(stages)
    st.caption(escape(f"Run {run.name}, read from {unsigned(tracking_uri())}"))


def show_numbers(run: PipelineRun, stages: list[Stage]) -> None:
    """How the run stands, at a glance."""
    latest = runs.latest(stages)
    columns = st.columns(4)
    columns[0].metric("State", run.state)
    columns[1].metric("Took" if run.state != "running" else "Running for", duration(run.seconds))
    columns[2].metric("Stages", len(latest))
    columns[3].metric("Answered by the cache", sum(stage.state == "cached" for stage in latest))
    failed = ", ".join(stage.name for stage in latest if stage.state == "failed")
    if failed:
        st.error(f"Failed: {escape(failed)}. `headrace ui` shows what was asked of it and what it measured.")


def show_curves(stages: list[Stage]) -> None:
    """What training measured at every few steps."""
    metrics = runs.measured_in_steps(stages)
    if not metrics:
        return
    st.subheader("Training")
    metric = st.selectbox("Metric", metrics, format_func=lambda name: name.replace("_", " "))
    st.plotly_chart(charts.curves(runs.curves(stages, metric), metric), key="curves", config=charts.PLAIN)


def show_measured(stages: list[Stage]) -> None:
    """The last value of everything, stage by stage."""
    rows = [
        {"stage": stage.name, "metric": name, "value": number(value)}
        for stage in stages
        for name, value in sorted(stage.metrics.items())
    ]
    if rows:
        st.subheader("Measured")
        st.dataframe(rows, hide_index=True)


if __name__ == "__main__":
    draw()
