"""The corpus a run is made from."""

from kfp import dsl

from components.base import component


@component
def gather(config: dict, corpus: dsl.Output[dsl.Dataset]) -> list:
    """Collect a corpus, or index one that lies elsewhere.

    Args:
        config: An encoded `CorpusConfig`.
        corpus: Documents by split, or references to them.

    Returns:
        The pieces to tokenize, each `SPLIT=FILE` or `SPLIT:SOURCE=FILE`.
    """
    from headrace.config import decode
    from headrace.data.corpus import CorpusConfig, gather_corpus, pieces
    from headrace.tracking import task

    with task(config) as run:
        manifest = gather_corpus(decode(CorpusConfig, config), corpus.path)
        found = pieces(corpus.path)
        run.made(corpus, manifest, f"{len(found)} files")
    return found
