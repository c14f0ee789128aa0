"""The pieces of a split, gathered under one manifest."""

from typing import List  # noqa: UP035  kfp reads typing.List in an artifact list's annotation

from kfp import dsl

from components.base import component


@component
def combine(pieces: dsl.Input[List[dsl.Dataset]], split: str, tokens: dsl.Output[dsl.Dataset]) -> None:  # noqa: UP006
    """Join the shards of one split.

    Args:
        pieces: Shards of all splits, as `tokenize` made them.
        split: Which to join, such as `text` or `instructions`; empty for all.
        tokens: One directory with one manifest.
    """
    from headrace.data.shards import combine_shards
    from headrace.tracking import task

    chosen = [piece for piece in pieces if split in ("", piece.metadata["split"])]
    with task({"split": split}, {f"tokens_{number}": piece for number, piece in enumerate(chosen)}) as run:
        manifest = combine_shards([piece.path for piece in chosen], tokens.path)
        tokens.metadata["split"] = split
        run.made(tokens, manifest, f"{manifest.facts.tokens:,} tokens")
