"""The report on a run's data."""

from kfp import dsl

from components.base import component


@component
def report(
    text: dsl.Input[dsl.Dataset],
    instructions: dsl.Input[dsl.Dataset],
    exclusions: dsl.Input[dsl.Dataset],
    weights: dict,
    drawn: dict,
    page: dsl.Output[dsl.HTML],
    numbers: dsl.Output[dsl.Metrics],
) -> None:
    """Show what there is of each source, what was left out and why, and what the mixture came to.

    Args:
        text: Shards of plain documents.
        instructions: Shards of prompts with targets.
        exclusions: What `filter_corpus` made.
        weights: Share of tokens asked for, by source; empty where there is no mixture.
        drawn: Tokens that a loader drew, by source; empty where none were.
        page: The report to be read; `report.json` lies beside it in MLflow.
        numbers: Its totals.
    """
    from pathlib import Path

    from headrace.data.data_report import write_report
    from headrace.tracking import task

    used = {"text": text, "instructions": instructions, "exclusions": exclusions}
    with task({"weights": weights}, used) as run:
        path = Path(page.path).with_name("report.html")
        shards = {"text": text.path, "instructions": instructions.path}
        drawn_tokens = {name: int(tokens) for name, tokens in drawn.items()}
        made = write_report(shards, exclusions.path, path, weights=weights, drawn=drawn_tokens)
        for file in (path, path.with_suffix(".json")):
            run.artifact(file, "data")
        path.replace(page.path)
        for name, value in made.numbers().items():
            numbers.log_metric(name, value)
        run.metrics({f"data/{name}": value for name, value in made.numbers().items()})
        run.progress(f"{made.tokens:,} tokens of {len(made.sources):,} sources")
