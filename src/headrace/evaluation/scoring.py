"""Log-likelihoods of continuations, many at once: the one place where evaluation runs the model over text.

The model's head is applied only where a token of a continuation is predicted, which for a vocabulary of
50,400 is much of the work. Continuations of one context, such as the endings of a multiple-choice
question, share the reading of that context through the key-value cache.

Letters: B rows, G contexts, T positions, N scored positions of a batch, D model width, V vocabulary.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from headrace.artifacts import MaskContract
from headrace.errors import TrainingError
from headrace.models.cache import KVCache
from headrace.models.gptj import GPTJ
from headrace.models.masks import prefix_lm

LOGITS_AT_ONCE = 2**25
"""Most logits held at one time (128 MiB of fp32), whatever the batch."""
Ids = Sequence[int]


class Pair(NamedTuple):
    """Token ids to read and token ids to score after them; neither is empty."""

    context: Ids
    continuation: Ids

    @property
    def read(self) -> int:
        """Tokens the model reads to score it: the last one is predicted and never read."""
        return len(self.context) + len(self.continuation) - 1


class Score(NamedTuple):
    """What a model makes of a continuation."""

    loglikelihood: float
    """Nats, summed over its tokens."""
    greedy: bool
    """Whether each of its tokens is the likeliest, given those before."""


class Size(NamedTuple):
    """Room that something takes in a batch."""

    rows: int
    read: int
    """Tokens read at first."""
    new: int = 0
    """Tokens that follow them."""


Scored = tuple[list[int], list[Tensor]]
"""Places in the list of pairs, and the hidden states of shape (tokens, D) that predict each continuation."""


def score_pairs(
    model: GPTJ,
    pairs: Sequence[Pair],
    *,
    mask: MaskContract = "causal",
    max_batch_tokens: int = 2**13,
    on_progress: Callable[[float], None] | None = None,
) -> list[Score]:
    """Score each continuation after its context.

    Args:
        model: Whose log-likelihoods; read on whichever device it is.
        pairs: In any order; each fits the model's context.
        mask: Under `prefix` the context is seen whole from everywhere; the continuation is causal either way.
        max_batch_tokens: Tokens read side by side, padding included; a single longer row is a batch.
        on_progress: Told the share of pairs done after each batch.

    Returns:
        Scores in the order of `pairs`.

    Raises:
        TrainingError: A log-likelihood is not finite.
    """
    places: dict[tuple[int, ...], list[int]] = {}
    for place, pair in enumerate(pairs):
        places.setdefault(tuple(pair.context), []).append(place)
    alone = [group[0] for group in places.values() if len(group) == 1]
    shared = [group for group in places.values() if len(group) > 1]
    scores: dict[int, Score] = {}
    with torch.inference_mode():
        for batch, spans in itertools.chain(
            _read_alone(model, pairs, alone, mask, max_batch_tokens),
            _read_shared(model, pairs, shared, mask, max_batch_tokens),
        ):
            scores.update(zip(batch, _score(model, spans, [pairs[p].continuation for p in batch]), strict=True))
            if on_progress is not None:
                on_progress(len(scores) / len(pairs))
    return [scores[place] for place in range(len(pairs))]


def batches(sizes: Sequence[Size], max_tokens: int, context_tokens: int) -> Iterator[list[int]]:
    """Group indices by length, longest first, into padded batches that fit both limits, or hold one index."""
    batch: list[int] = []
    rows = read = new = 0
    for index in sorted(range(len(sizes)), key=lambda i: -(sizes[i].read + sizes[i].new)):
        size = sizes[index]
        rows, read, new = rows + size.rows, max(read, size.read), max(new, size.new)
        if batch and (rows * (read + new) > max_tokens or read + new > context_tokens):
            yield batch
            batch, (rows, read, new) = [], size
        batch.append(index)
    if batch:
        yield batch


def cut(ids: Ids, given: int, room: int) -> Iterator[Pair]:
    """Cut a text into windows of at most `room` tokens read, that score each token after the first `given` once.

    The last window reaches back as far as it can, so that no token has less context than it need have.
    """
    start, stop = given, min(len(ids), room + 1)
    while start < stop:
        yield Pair(ids[max(0, stop - room - 1) : start], ids[start:stop])
        start, stop = stop, min(len(ids), stop + room)


def _read_alone(
    model: GPTJ, pairs: Sequence[Pair], places: list[int], mask: MaskContract, max_tokens: int
) -> Iterator[Scored]:
    """Read context and continuation in one pass, padded at the end, where no earlier position can see it."""
    sizes = [Size(1, pairs[place].read) for place in places]
    for indices in batches(sizes, max_tokens, model.config.context_tokens):
        batch = [places[index] for index in indices]
        tokens_BT = _pad(model, [[*pairs[p].context, *pairs[p].continuation[:-1]] for p in batch])
        lengths = [len(pairs[place].context) for place in batch]
        hidden_BTD = model.hidden(tokens_BT, prefix_lm(lengths).to(tokens_BT.device) if mask == "prefix" else None)
        yield batch, [hidden_BTD[b, lengths[b] - 1 : pairs[place].read] for b, place in enumerate(batch)]


def _read_shared(
    model: GPTJ, pairs: Sequence[Pair], groups: list[list[int]], mask: MaskContract, max_tokens: int
) -> Iterator[Scored]:
    """Read each context once, then every continuation after a copy of what its context left in the cache."""
    news = [max(len(pairs[place].continuation) for place in group) - 1 for group in groups]
    sizes = [Size(len(g), len(pairs[g[0]].context), new) for g, new in zip(groups, news, strict=True)]
    for indices in batches(sizes, max_tokens, model.config.context_tokens):
        chosen = [groups[index] for index in indices]
        batch = [place for group in chosen for place in group]
        owners = [g for g, group in enumerate(chosen) for _ in group]
        contexts = [pairs[group[0]].context for group in chosen]
        last_GD, cache = _read_contexts(model, contexts, mask, max(news[index] for index in indices))
        cache.keep(owners)
        tokens_BT = _pad(model, [pairs[place].continuation[:-1] for place in batch])
        empty_B0D = last_GD.new_empty(len(batch), 0, last_GD.shape[1])
        hidden_BTD = model.hidden(tokens_BT, None, cache) if tokens_BT.shape[1] else empty_B0D
        spans = (hidden_BTD[b, : len(pairs[place].continuation) - 1] for b, place in enumerate(batch))
        yield batch, [torch.cat((last_GD[owner, None], span_TD)) for owner, span_TD in zip(owners, spans, strict=True)]


def _read_contexts(model: GPTJ, contexts: Sequence[Ids], mask: MaskContract, new: int) -> tuple[Tensor, KVCache]:
    """Fill a cache with contexts, leaving room for `new` tokens; the last hidden state of each is returned."""
    weight, lengths = model.embedding.weight, [len(context) for context in contexts]
    cache = KVCache(model.config, len(contexts), max(lengths) + new, weight.device, weight.dtype)
    prompt = prefix_lm(lengths).to(weight.device) if mask == "prefix" else None
    hidden_GTD = model.hidden(_pad(model, contexts), prompt, cache)
    cache.trim(lengths)
    return hidden_GTD[torch.arange(len(lengths)), torch.tensor(lengths) - 1], cache


def _pad(model: GPTJ, rows: Sequence[Ids]) -> Tensor:
    """Rows of ids as one tensor on the model's device, filled with zeros on the right."""
    tensors = [torch.tensor(row, dtype=torch.int64) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True).to(model.embedding.weight.device)


def _score(model: GPTJ, spans: list[Tensor], continuations: Sequence[Ids]) -> list[Score]:
    """Compare what the hidden states predict with the continuations; logits are held a slice at a time."""
    hidden_ND = torch.cat(spans)
    targets_N = torch.tensor([token for ids in continuations for token in ids]).to(hidden_ND.device)
    positions = max(1, LOGITS_AT_ONCE // model.config.vocab_size)
    nats, hits = [], []
    for slice_ND, slice_N in zip(hidden_ND.split(positions), targets_N.split(positions), strict=True):
        logits_NV = model.head(slice_ND).float()
        nats.append(logits_NV.gather(1, slice_N[:, None]).squeeze(1) - logits_NV.logsumexp(dim=1))
        hits.append(logits_NV.argmax(dim=1) == slice_N)
    lengths = [len(ids) for ids in continuations]
    nats_N, hits_N = torch.cat(nats).double().cpu(), torch.cat(hits).cpu()
    if not nats_N.isfinite().all():
        raise TrainingError("The model gives log-likelihoods that are not finite. Evaluate an earlier checkpoint.")
    pieces = zip(nats_N.split(lengths), hits_N.split(lengths), strict=True)
    return [Score(float(nats_n.sum()), bool(hits_n.all())) for nats_n, hits_n in pieces]
