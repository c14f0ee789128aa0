"""The beginning of a corpus as token shards, for trials that need real data and little of it."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from headrace.data.corpus import TRAINED_ON, CorpusConfig, gather_corpus, parents, read_piece, split_pieces, splits
from headrace.data.formats.document import Document
from headrace.data.mixture import needed
from headrace.data.shards import ShardConfig, write_shards
from headrace.data.tokenizer import TokenizerConfig, train_on


def gather_excerpt(
    corpus: CorpusConfig,
    sources: Iterable[str],
    make_tokenizer: Callable[[Path, Path], object],
    folder: Path,
    documents: int,
    shards: ShardConfig,
) -> tuple[dict[str, str], str]:
    """Encode the first documents of every file that a mixture reads; none are left out as duplicates.

    Args:
        corpus: Where the documents are.
        sources: Names of the mixture.
        make_tokenizer: Makes the tokenizer, given the gathered corpus and where it goes.
        folder: Takes the corpus, the tokenizer and the shards.
        documents: How many of each file.
        shards: Sizes.

    Returns:
        URIs of the shards by name, and of the tokenizer.
    """
    gathered, tokenizer = folder / "corpus", folder / "tokenizer"
    gather_corpus(corpus, gathered)
    make_tokenizer(gathered, tokenizer)
    trained_on = [split for split in splits(gathered) if split in TRAINED_ON]
    made = {}
    for split in needed(trained_on, sources):
        made[split] = str(folder / split)
        write_shards(_beginning(gathered, split, documents), tokenizer, made[split], shards, parents=parents(gathered))
    return made, str(tokenizer)


def train_excerpt_tokenizer(config: TokenizerConfig, documents: int) -> Callable[[Path, Path], object]:
    """A `make_tokenizer` that trains on the first documents of each file of text."""
    return lambda gathered, output: train_on(_beginning(gathered, "text", documents), output, config, parents(gathered))


def _beginning(gathered: Path, split: str, documents: int) -> Iterator[Document]:
    pieces = split_pieces(gathered, split)
    return itertools.chain.from_iterable(itertools.islice(read_piece(piece), documents) for piece in pieces)
