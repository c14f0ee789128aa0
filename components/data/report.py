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
    summary: dsl.Output[dsl.Dataset],
    page: dsl.Output[dsl.HTML],
    numbers: dsl.Output[dsl.Metrics],
) -> None:
    """Show what there is of each source, what was left out and why, and what the mixture comes to.

    Args:
        pieces: Shards of all splits, as `tokenize` made them.
        tokenizer: What encoded them.
        exclusions: What `filter_corpus` made.
        training: The encoded `TrainConfig` whose mixture is drawn from.
        summary: The report, as a page and as JSON; its totals become metadata.
        page: The page alone, for KFP's own.
        numbers: The totals alone.
    """
    import json
    from pathlib import Path

    from headrace.artifacts import summary as scalars
    from headrace.config import decode
    from headrace.data.realised import realise_pieces
    from headrace.data.report.report import NUMBERS_FILE, PAGE_FILE, write_report
    from headrace.pages.outputs import write_page
    from headrace.tracking import task
    from headrace.training.config import TrainConfig

    shown = {f"tokens_{number}": piece for number, piece in enumerate(pieces)}
    with task(training, {"tokenizer": tokenizer, "exclusions": exclusions, **shown}) as run:
        config = decode(TrainConfig, training)
        shards = [(piece.metadata["split"], piece.path) for piece in pieces]
        drawn = realise_pieces(shards, tokenizer.path, config.data, config.model.vocab_size)
        tokens = {f"{split}_{number}": uri for number, (split, uri) in enumerate(shards)}
        weights = {name: source.weight for name, source in config.data.sources.items()}
        manifest = write_report(tokens, exclusions.path, summary.path, weights=weights, drawn=drawn)
        folder = Path(summary.path)
        for name in (PAGE_FILE, NUMBERS_FILE):
            run.artifact(folder / name, "data")
        write_page(page, (folder / PAGE_FILE).read_text(encoding="utf-8"))
        for name, value in scalars(manifest.facts).items():
            numbers.log_metric(name, value)
        Path(numbers.path).write_text(json.dumps(numbers.metadata))  # the local cache asks for a file of each output
        run.metrics({f"data/{name}": float(value) for name, value in scalars(manifest.facts).items()})
        run.made(summary, manifest, f"{manifest.facts.tokens:,} tokens")
