"""The corpus a run is made from."""

from kfp import dsl

from components.base import component


@component
def gather(
    config: dict,
    corpus: dsl.Output[dsl.Dataset],
    evaluation: dict = {},  # noqa: B006  kfp takes no None for a dict
) -> list:
    """Collect a corpus, or index one that lies elsewhere.

    Args:
        config: An encoded `CorpusConfig`.
        evaluation: An encoded `EvalConfig`, where the chain evaluates; empty otherwise. Its tasks must find their
            data as they need it, before days of training.
        corpus: Documents by split, or references to them.

    Returns:
        The pieces to tokenize, each `SPLIT=FILE` or `SPLIT:SOURCE=FILE`.
    """
    from headrace.config import decode
    from headrace.data.corpus import CorpusConfig, gather_corpus, pieces, splits
    from headrace.data.lineage import origins
    from headrace.evaluation.config import EvalConfig
    from headrace.evaluation.sources import check_tasks
    from headrace.tracking import task

    with task(config) as run:
        asked = decode(CorpusConfig, config)
        manifest = gather_corpus(asked, corpus.path)
        if evaluation:
            check_tasks(decode(EvalConfig, evaluation), splits(corpus.path))
        found = pieces(corpus.path)
        run.used({name: (one.digest, one.uri) for name, one in origins(corpus.path, asked).items()})
        run.made(corpus, manifest, f"{len(found)} files")
    return found
