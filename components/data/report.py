"""The report on a run's data."""

from typing import List  # noqa: UP035  kfp reads typing.List in an artifact list's annotation

from kfp import dsl

from components.base import component


@component
def report(
    pieces: dsl.Input[List[dsl.Dataset]],  # noqa: UP006
    tokenizer: dsl.Input[dsl.Artifact],
    exclusions: dsl.Input[dsl.Dataset],
    training: dict,
    page: dsl.Output[dsl.HTML],
    numbers: dsl.Output[dsl.Metrics],
) -> None:
    """Show what there is of each source, what was left out and why, and what the mixture comes to.

    Args:
        pieces: Shards of all splits, as `tokenize` made them.
        tokenizer: What encoded them.
        exclusions: What `filter_corpus` made.
        training: The encoded `TrainConfig` whose mixture is drawn from.
        page: The report to be read; `report.json` lies beside it in MLflow.
        numbers: Its totals.
    """
    from pathlib import Path

    from headrace.config import decode
    from headrace.data.data_report import write_report
    from headrace.data.realised import realise_pieces
    from headrace.tracking import task
    from headrace.training.config import TrainConfig

    with task(training, {"tokenizer": tokenizer, "exclusions": exclusions}) as run:
        config = decode(TrainConfig, training)
        shards = [(piece.metadata["split"], piece.path) for piece in pieces]
        drawn = realise_pieces(shards, tokenizer.path, config.data, config.model.vocab_size)
        path = Path(page.path).with_name("report.html")
        tokens = {f"{split}_{number}": uri for number, (split, uri) in enumerate(shards)}
        weights = {name: source.weight for name, source in config.data.sources.items()}
        made = write_report(tokens, exclusions.path, path, weights=weights, drawn=drawn)
        for file in (path, path.with_suffix(".json")):
            run.artifact(file, "data")
        path.replace(page.path)
        for name, value in made.numbers().items():
            numbers.log_metric(name, value)
        run.metrics({f"data/{name}": value for name, value in made.numbers().items()})
        run.progress(f"{made.tokens:,} tokens of {len(made.sources):,} sources")
