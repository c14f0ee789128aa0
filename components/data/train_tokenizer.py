"""The tokenizer of a run."""

from kfp import dsl

from components.base import component


@component
def train_tokenizer(corpus: dsl.Input[dsl.Dataset], config: dict, tokenizer: dsl.Output[dsl.Artifact]) -> None:
    """Train a tokenizer on the corpus's text, or take a published one.

    Args:
        corpus: What `gather` made.
        config: An encoded `TokenizerConfig`.
        tokenizer: A `tokenizer.json`; its vocabulary and fingerprint become metadata.
    """
    from itertools import chain

    from headrace.config import decode
    from headrace.data import tokenizer as tokenizers
    from headrace.data.corpus import parents, read_piece, split_pieces
    from headrace.tracking import task

    with task(config, {"corpus": corpus}) as run:
        texts = chain.from_iterable(map(read_piece, split_pieces(corpus.path, "text")))
        settings = decode(tokenizers.TokenizerConfig, config)
        manifest = tokenizers.train_on(texts, tokenizer.path, settings, parents(corpus.path))
        run.made(tokenizer, manifest, f"{manifest.facts.vocabulary:,} tokens")
