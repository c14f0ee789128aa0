"""The steps that a chain begins with: a corpus, its tokenizer, and token shards by split."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import PipelineTask

from components.data.combine import combine
from components.data.gather import gather
from components.data.tokenize import tokenize


class Prepared(NamedTuple):
    """What later steps read."""

    corpus: PipelineTask
    tokenizer: dsl.Artifact
    text: PipelineTask
    instructions: PipelineTask


def encode(gathered: PipelineTask, tokenizer: dsl.Artifact, shards: dict) -> PipelineTask:
    """Tokenize the files of a corpus side by side."""
    with dsl.ParallelFor(gathered.outputs["Output"], name="each-file") as piece:
        encoded = tokenize(corpus=gathered.outputs["corpus"], tokenizer=tokenizer, piece=piece, config=shards)
    return encoded.set_retry(num_retries=1)


def join(pieces: PipelineTask, split: str) -> PipelineTask:
    """Put the shards of one split under one manifest."""
    # The compiler rewrites a Collected in place, so each consumer needs one of its own.
    return combine(pieces=dsl.Collected(pieces.outputs["tokens"]), split=split).set_display_name(f"combine {split}")


def prepare(corpus: dict, tokenizer: dsl.Artifact, shards: dict) -> Prepared:
    """Gather a corpus and encode its text and instructions with a tokenizer that exists."""
    gathered = gather(config=corpus)
    pieces = encode(gathered, tokenizer, shards)
    return Prepared(gathered, tokenizer, join(pieces, "text"), join(pieces, "instructions"))
