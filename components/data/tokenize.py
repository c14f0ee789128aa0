"""One piece of a corpus as token shards."""

from kfp import dsl

from components.base import component


@component
def tokenize(
    corpus: dsl.Input[dsl.Dataset],
    tokenizer: dsl.Input[dsl.Artifact],
    piece: str,
    config: dict,
    tokens: dsl.Output[dsl.Dataset],
) -> None:
    """Encode one file of the corpus.

    Args:
        corpus: What `gather` made.
        tokenizer: What `train_tokenizer` made.
        piece: `SPLIT=FILE`, one of the values that `gather` returned.
        config: An encoded `ShardConfig`.
        tokens: The shards; their split and token counts become metadata.
    """
    from headrace.config import decode
    from headrace.data.corpus import locate
    from headrace.data.documents import read_documents, sealed_parents
    from headrace.data.shards import ShardConfig, write_shards
    from headrace.tracking import task

    with task(config, {"corpus": corpus, "tokenizer": tokenizer}) as run:
        split, uri = locate(corpus.path, piece)
        shards, parents = decode(ShardConfig, config), sealed_parents([uri])
        manifest = write_shards(read_documents(uri), tokenizer.path, tokens.path, shards, parents=parents)
        tokens.metadata["split"] = split
        run.made(tokens, manifest, f"{manifest.facts.tokens:,} tokens")
