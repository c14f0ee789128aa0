"""What one file's documents are compared by."""

from kfp import dsl

from components.base import component


@component
def sign(corpus: dsl.Input[dsl.Dataset], piece: str, config: dict, signatures: dsl.Output[dsl.Dataset]) -> None:
    """Sign the documents of one file of the corpus.

    Args:
        corpus: What `gather` made; its evaluation splits are what contamination is looked for from.
        piece: One of the values that `gather` returned.
        config: An encoded `FilterConfig`.
        signatures: Digests, MinHash signatures and overlaps; their numbers become metadata.
    """
    from headrace.config import decode
    from headrace.data.corpus import locate, parents, read_piece
    from headrace.data.filtering import filter as filters
    from headrace.data.filtering.items import evaluation_items, item_files
    from headrace.data.quarantine import Quarantine
    from headrace.tracking import task

    with task(config, {"corpus": corpus}) as run:
        found = locate(corpus.path, piece)
        apart = Quarantine(found.quarantine_limit)
        manifest = filters.sign(
            read_piece(found, apart),
            signatures.path,
            decode(filters.FilterConfig, config),
            evaluation=evaluation_items(corpus.path),
            item_files=item_files(corpus.path),
            parents=parents(corpus.path),
            quarantine=apart,
            progress=run.progress,
        )
        run.made(signatures, manifest, f"{manifest.facts.documents:,} documents")
