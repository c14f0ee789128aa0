"""What a mixture comes to: draw from it and count, rather than trust the weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from headrace.data.loader import BatchStream, LoaderConfig
from headrace.data.mixture import needed
from headrace.data.shard_files import OpenShards, join
from headrace.data.shards import open_shards
from headrace.data.tokenizer import load_tokenizer
from headrace.data.vocabulary import SpecialTokens

TRIAL_TOKENS = 1_000_000


def realise(
    shards: Mapping[str, OpenShards],
    config: LoaderConfig,
    special: SpecialTokens,
    eos_id: int,
    tokens: int = TRIAL_TOKENS,
) -> dict[str, int]:
    """Positions that each source fills in the first batches of a mixture, padding left out.

    Args:
        shards: Documents by name, as for `BatchStream`.
        config: The mixture.
        special: Mode tokens and sentinels of the model.
        eos_id: End-of-text of the tokenizer.
        tokens: How many to draw at least, over all sources.
    """
    stream = BatchStream(shards, config, special, eos_id)
    drawn: dict[str, int] = {}
    while sum(drawn.values()) < tokens:
        stream.next()
        drawn = {name: position["tokens"] for name, position in stream.state().items()}
    return drawn


def realise_pieces(
    pieces: Sequence[tuple[str, str | Path]], tokenizer_uri: str | Path, config: LoaderConfig, vocab_size: int
) -> dict[str, int]:
    """The same, of shards that nobody has combined yet.

    Args:
        pieces: Split and URI of each.
        tokenizer_uri: What encoded them.
        config: The mixture.
        vocab_size: Rows of the model's embedding.
    """
    tokenizer = load_tokenizer(tokenizer_uri)
    parts: dict[str, list[OpenShards]] = {}
    for split, uri in pieces:
        parts.setdefault(split, []).append(open_shards(uri, verify=False))
    shards = {name: join(parts[name]) for name in needed(parts, config.sources)}
    return realise(shards, config, SpecialTokens(tokenizer.vocabulary, vocab_size), tokenizer.eos_id)
