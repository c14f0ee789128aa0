"""A checkpoint brought into a pipeline from outside it."""

from kfp import dsl

from components.base import component


@component
def fetch(reference: str, checkpoint: dsl.Output[dsl.Model], tokenizer: dsl.Output[dsl.Artifact]) -> None:
    """Bring in a registered version or a stored checkpoint, verified.

    Args:
        reference: `NAME@alias`, `NAME/NUMBER`, a directory or `gs://bucket/prefix`.
        checkpoint: A copy of it with the same digest.
        tokenizer: The tokenizer it was trained with.
    """
    from headrace.data.tokenizer import extract_tokenizer
    from headrace.registry import copy_checkpoint
    from headrace.tracking import task

    with task({"reference": reference}) as run:
        manifest = copy_checkpoint(reference, checkpoint.path)
        run.made(tokenizer, extract_tokenizer(checkpoint.path, tokenizer.path))
        # What the name stands for may change: the cache looks again before it answers.
        checkpoint.metadata["reference"] = reference
        run.made(checkpoint, manifest, f"step {manifest.facts.step:,}")
