"""The steps that a chain begins with: a corpus, what to leave out of it, and token shards by split."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import PipelineTask

from components.data.combine import combine
from components.data.filter import filter_corpus
from components.data.gather import gather
from components.data.report import report
from components.data.sign import sign
from components.data.tokenize import tokenize


class Encoded(NamedTuple):
    """The files of a corpus as shards, and the report on them."""

    pieces: PipelineTask
    report: PipelineTask


class Prepared(NamedTuple):
    """What later steps read."""

    corpus: PipelineTask
    tokenizer: dsl.Artifact
    text: PipelineTask
    instructions: PipelineTask
    report: PipelineTask


def encode(gathered: PipelineTask, tokenizer: dsl.Artifact, filtering: dict, shards: dict, training: dict) -> Encoded:
    """Compare all documents, tokenize those that stay, file by file, and report on them.

    Args:
        gathered: The corpus.
        tokenizer: What encodes it.
        filtering: An encoded `FilterConfig`.
        shards: An encoded `ShardConfig`.
        training: The encoded `TrainConfig` whose mixture the report realises.
    """
    corpus, files = gathered.outputs["corpus"], gathered.outputs["Output"]
    with dsl.ParallelFor(files, name="sign-each-file") as piece:
        signed = sign(corpus=corpus, piece=piece, config=filtering).set_retry(num_retries=1)
    compared = filter_corpus(signatures=dsl.Collected(signed.outputs["signatures"]), config=filtering)
    exclusions = compared.outputs["exclusions"]
    with dsl.ParallelFor(files, name="tokenize-each-file") as piece:
        encoded = tokenize(corpus=corpus, tokenizer=tokenizer, exclusions=exclusions, piece=piece, config=shards)
    encoded.set_retry(num_retries=1)
    reported = report(
        pieces=dsl.Collected(encoded.outputs["tokens"]),
        tokenizer=tokenizer,
        exclusions=exclusions,
        training=training,
    ).set_display_name("report data")
    return Encoded(encoded, reported)


def join(encoded: Encoded, split: str) -> PipelineTask:
    """Put the shards of one split under one manifest, or of all where `split` is empty."""
    # The compiler rewrites a Collected in place, so each consumer needs one of its own.
    joined = combine(pieces=dsl.Collected(encoded.pieces.outputs["tokens"]), split=split)
    return joined.set_display_name(f"combine {split}".strip())


def prepared(
    corpus: dict, tokenizer: dsl.Artifact, filtering: dict, shards: dict, training: dict, evaluation: dict
) -> Prepared:
    """Gather a corpus and encode its text and instructions with a tokenizer that exists."""
    gathered = gather(config=corpus, evaluation=evaluation)
    encoded = encode(gathered, tokenizer, filtering, shards, training)
    return Prepared(gathered, tokenizer, join(encoded, "text"), join(encoded, "instructions"), encoded.report)
