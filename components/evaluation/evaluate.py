"""The measurement of one checkpoint."""

from kfp import dsl

from components.base import component


@component
def evaluate(
    checkpoint: dsl.Input[dsl.Model],
    corpus: dsl.Input[dsl.Dataset],
    config: dict,
    report: dsl.Output[dsl.Metrics],
    page: dsl.Output[dsl.HTML],
    confusion: dsl.Output[dsl.ClassificationMetrics],
) -> None:
    """Score a checkpoint on the harness's tasks and on held-out text.

    Args:
        checkpoint: What to measure, under the mask it was trained with.
        corpus: Where the held-out splits lie.
        config: An encoded `EvalConfig`.
        report: Metrics with standard errors, and the score of each example.
        page: The report's page alone, for KFP's own.
        confusion: Answers by what was right, of the first classification task; empty where there is none.
    """
    from pathlib import Path

    from headrace.config import decode
    from headrace.data.corpus import splits
    from headrace.evaluation import report as reports
    from headrace.evaluation.config import EvalConfig
    from headrace.evaluation.showing import keep, show
    from headrace.tracking import task

    with task(config, {"checkpoint": checkpoint, "corpus": corpus}) as run:
        settings, folder = decode(EvalConfig, config), Path(report.path)
        manifest = reports.evaluate(checkpoint.path, report.path, settings, data=splits(corpus.path), tracker=run)
        keep(folder, manifest, run)
        show(folder, manifest, settings, page, confusion)
        run.made(report, manifest, reports.headline(manifest.facts, settings))
        report.metadata.update({name: metric.value for name, metric in manifest.facts.metrics.items()})
