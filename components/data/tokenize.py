"""One piece of a corpus as token shards."""

from kfp import dsl

from components.base import component


@component
def tokenize(
    corpus: dsl.Input[dsl.Dataset],
    tokenizer: dsl.Input[dsl.Artifact],
    exclusions: dsl.Input[dsl.Dataset],
    piece: str,
    config: dict,
    tokens: dsl.Output[dsl.Dataset],
) -> None:
    """Encode one file of the corpus, without the documents that are left out.

    Args:
        corpus: What `gather` made.
        tokenizer: What `train_tokenizer` made.
        exclusions: What `filter_corpus` made.
        piece: One of the values that `gather` returned.
        config: An encoded `ShardConfig`.
        tokens: The shards; their split and token counts become metadata.
    """
    from headrace.config import decode
    from headrace.data.corpus import locate, parents, read_piece
    from headrace.data.filtering.filter import load_exclusions
    from headrace.data.quarantine import Quarantine
    from headrace.data.shards import ShardConfig, write_shards
    from headrace.tracking import task

    with task(config, {"corpus": corpus, "tokenizer": tokenizer, "exclusions": exclusions}) as run:
        found = locate(corpus.path, piece)
        left_out, apart = load_exclusions(exclusions.path), Quarantine(found.quarantine_limit)
        manifest = write_shards(
            left_out.without(read_piece(found, apart)),
            tokenizer.path,
            tokens.path,
            decode(ShardConfig, config),
            parents={**parents(corpus.path), "exclusions": left_out.digest},
            quarantine=apart,
            may_be_empty=True,  # a file of duplicates alone
        )
        tokens.metadata["split"] = found.split
        run.made(tokens, manifest, f"{manifest.facts.tokens:,} tokens")
