"""The measurement of the version to beat."""

from kfp import dsl

from components.base import component


@component
def evaluate_incumbent(
    candidate: dsl.Input[dsl.Model],
    corpus: dsl.Input[dsl.Dataset],
    model: str,
    config: dict,
    report: dsl.Output[dsl.Metrics],
    page: dsl.Output[dsl.HTML],
    confusion: dsl.Output[dsl.ClassificationMetrics],
) -> None:
    """Score the version that a candidate must beat, on the same data as the candidate.

    Args:
        candidate: The checkpoint that wants to replace it.
        corpus: Where the held-out splits lie.
        model: Registered name whose champion it is.
        config: An encoded `EvalConfig`.
        report: As `evaluate` writes it; without metrics where there is no version to beat.
        page: The report's page alone, for KFP's own.
        confusion: Answers by what was right, as `evaluate` shows them.
    """
    from pathlib import Path

    from headrace import registry
    from headrace.config import decode
    from headrace.data.corpus import splits
    from headrace.evaluation import report as reports
    from headrace.evaluation.config import EvalConfig
    from headrace.evaluation.showing import keep, show
    from headrace.tracking import task

    with task(config, {"candidate": candidate, "corpus": corpus}) as run:
        settings = decode(EvalConfig, config)
        version = registry.incumbent(model, candidate.metadata["digest"])
        if version is None:
            manifest = reports.nothing_to_beat(report.path, settings, data=splits(corpus.path))
            run.made(report, manifest, "no champion yet")
        else:
            checkpoint = str(registry.fetch(version))
            manifest = reports.evaluate(checkpoint, report.path, settings, data=splits(corpus.path), tracker=run)
            run.made(report, manifest, f"version {version.number}")
        keep(Path(report.path), manifest, run)
        show(Path(report.path), manifest, settings, page, confusion)
        report.metadata.update({name: metric.value for name, metric in manifest.facts.metrics.items()})
        report.metadata.update(incumbent_of=candidate.metadata["digest"], model=model)
