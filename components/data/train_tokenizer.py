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
    from headrace.config import decode
    from headrace.data import tokenizer as tokenizers
    from headrace.data.corpus import split_files
    from headrace.tracking import task

    with task(config, {"corpus": corpus}) as run:
        texts = split_files(corpus.path, "text")
        manifest = tokenizers.train_tokenizer(texts, tokenizer.path, decode(tokenizers.TokenizerConfig, config))
        run.made(tokenizer, manifest, f"{manifest.facts.vocabulary:,} tokens")
