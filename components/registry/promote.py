"""Promotion of a candidate that passed."""

from kfp import dsl

from components.base import component


@component
def promote(
    checkpoint: dsl.Input[dsl.Model],
    verdict: dsl.Input[dsl.Artifact],
    model: str,
    version: dsl.Output[dsl.Model],
) -> str:
    """Register a checkpoint with its verdict and make it champion, or challenger where somebody must approve it.

    Args:
        checkpoint: The candidate.
        verdict: The passing verdict on it.
        model: Registered name.
        version: Name, number and evidence of the registered version.

    Returns:
        `champion` or `challenger`.
    """
    from headrace import registry, storage
    from headrace.tracking import task

    with task({"model": model}, {"checkpoint": checkpoint, "verdict": verdict}) as run:
        promoted = registry.promote(model, checkpoint.path, verdict.path, run_id=run.run_id)
        with storage.writing(version.path) as tree:
            manifest = tree.commit(promoted, {"checkpoint": promoted.checkpoint, "verdict": promoted.verdict})
        run.made(version, manifest, f"{promoted.name}@{promoted.alias} is version {promoted.version}")
    return promoted.alias
