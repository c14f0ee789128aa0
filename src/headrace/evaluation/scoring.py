"""Log-likelihoods of continuations, many at once: the one place where evaluation runs the model over text.

The model's head is applied only where a token of a continuation is predicted, which for a vocabulary of
50,400 is much of the work. Continuations of one context, such as the endings of a multiple-choice
question, are branches of one row, so that the context is read once and only what differs beside it.

Letters: N scored tokens, M positions that predict them, D model width, V vocabulary.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from headrace.artifacts import MaskContract
from headrace.errors import TrainingError
from headrace.evaluation.batching import Size, batches
from headrace.evaluation.reading import Fork, read
from headrace.models.gptj import GPTJ

LOGITS_AT_ONCE = 2**24
"""Most logits held at one time (64 MiB of fp32), whatever the batch."""
CACHED_LOGITS = 2**18
"""Logits that a core's cache holds (1 MiB of fp32)."""
CACHED_TOKENS = 2**11
"""Tokens that a CPU reads at a time: more are no faster, and what lies between two products leaves its caches."""
WORTH_SHARING = 8
"""Tokens of a context below which it is read again for each of its continuations."""
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


class Row(NamedTuple):
    """A context and all that is scored after it, read side by side as branches of one row."""

    context: Ids
    places: list[int]
    """Where its pairs are in the list of all."""
    continuations: list[Ids]

    @property
    def branches(self) -> list[int]:
        """Tokens read of each continuation: the last one is predicted and never read."""
        return [len(ids) - 1 for ids in self.continuations]

    @property
    def length(self) -> int:
        """Number of all tokens read."""
        return len(self.context) + sum(self.branches)

    @property
    def read(self) -> list[int]:
        """All tokens read."""
        return [*self.context, *(token for ids in self.continuations for token in ids[:-1])]

    def predicting(self) -> list[int]:
        """Positions in the row whose hidden states predict the tokens of each continuation in turn."""
        starts = itertools.accumulate(self.branches, initial=len(self.context))
        spans = (range(start, start + length) for start, length in zip(starts, self.branches, strict=False))
        return [at for span in spans for at in (len(self.context) - 1, *span)]


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
        max_batch_tokens: Tokens read side by side at most; a single longer row is a batch.
        on_progress: Told the share of pairs done after each batch.

    Returns:
        Scores in the order of `pairs`.

    Raises:
        TrainingError: A log-likelihood is not finite.
    """
    rows = _rows(pairs, model.config.context_tokens)
    on_cpu = model.embedding.weight.device.type == "cpu"
    max_tokens = min(max_batch_tokens, CACHED_TOKENS) if on_cpu else max_batch_tokens
    scores: dict[int, Score] = {}
    with torch.inference_mode():
        for indices in batches([Size(row.length) for row in rows], max_tokens, padded=False):
            batch = [rows[index] for index in indices]
            places = [place for row in batch for place in row.places]
            scores.update(zip(places, _score(model, batch, mask), strict=True))
            if on_progress is not None:
                on_progress(len(scores) / len(pairs))
    return [scores[place] for place in range(len(pairs))]


def cut(ids: Ids, given: int, room: int) -> Iterator[Pair]:
    """Cut a text into windows of at most `room` tokens read, that score each token after the first `given` once.

    The last window reaches back as far as it can, so that no token has less context than it need have.
    """
    start, stop = given, min(len(ids), room + 1)
    while start < stop:
        yield Pair(ids[max(0, stop - room - 1) : start], ids[start:stop])
        start, stop = stop, min(len(ids), stop + room)


def _rows(pairs: Sequence[Pair], room: int) -> list[Row]:
    """Bring pairs with one context together, where that saves more than it costs.

    A row holds at most `room` tokens, and branches of a context worth sharing: texts that all begin after
    `<|endoftext|>` alone have next to nothing in common, and attention over all of them would take no end.
    """
    rows: list[Row] = []
    latest: dict[tuple[int, ...], Row] = {}
    for place, pair in enumerate(pairs):
        row, new = latest.get(tuple(pair.context)), len(pair.continuation) - 1
        if row is None or len(pair.context) < WORTH_SHARING or row.length + new > room:
            row = latest[tuple(pair.context)] = Row(pair.context, [], [])
            rows.append(row)
        row.places.append(place)
        row.continuations.append(pair.continuation)
    return rows


def _score(model: GPTJ, rows: Sequence[Row], mask: MaskContract) -> list[Score]:
    """Read rows and hold what is predicted against the continuations; logits are held a slice at a time."""
    starts = itertools.accumulate((row.length for row in rows), initial=0)
    began = zip(starts, rows, strict=False)
    positions_N = torch.tensor([start + at for start, row in began for at in row.predicting()])
    targets_N = torch.tensor([token for row in rows for ids in row.continuations for token in ids])
    asked_M, places_N = positions_N.unique(return_inverse=True)
    forks = [Fork(row.read, len(row.context), row.branches) for row in rows]
    states_MD = read(model, forks, asked_M, prompt=mask == "prefix")
    nats_N, hits_N = torch.empty(len(targets_N), dtype=torch.float64), torch.empty(len(targets_N), dtype=torch.bool)
    at_once = min(len(targets_N), max(1, LOGITS_AT_ONCE // model.config.vocab_size))
    room_MV = states_MD.new_empty(at_once, model.config.vocab_size)
    # In order of position, for what several continuations begin after is computed once for all of them.
    for slice_N in places_N.argsort(stable=True).split(at_once):
        chosen_M, which_N = places_N[slice_N].unique_consecutive(return_inverse=True)
        logits_MV = _project(model, states_MD[chosen_M], room_MV)
        nats_N[slice_N], hits_N[slice_N] = _predict(logits_MV, which_N, targets_N[slice_N])
    if not nats_N.isfinite().all():
        raise TrainingError("The model gives log-likelihoods that are not finite. Evaluate an earlier checkpoint.")
    lengths = [len(ids) for row in rows for ids in row.continuations]
    pieces = zip(nats_N.split(lengths), hits_N.split(lengths), strict=True)
    return [Score(float(nats_n.sum()), bool(hits_n.all())) for nats_n, hits_n in pieces]


def _project(model: GPTJ, states_MD: Tensor, room_MV: Tensor) -> Tensor:
    """Apply the head into memory that is used again: fresh pages for each slice would cost as much as the sums."""
    head = model.head
    return torch.addmm(head.bias, states_MD, head.weight.T, out=room_MV[: len(states_MD)]).float()


def _predict(logits_MV: Tensor, which_N: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """Log-likelihoods of targets, each under the logits that `which_N` says, and whether it is the likeliest.

    The logits are overwritten.
    """
    given_N = logits_MV[which_N, targets_N]
    # A few rows at a time stay in a core's cache from one pass over them to the next.
    rows = CACHED_LOGITS // logits_MV.shape[1] + 1 if logits_MV.device.type == "cpu" else len(logits_MV)
    totals_M, likeliest_M = (torch.cat(parts) for parts in zip(*map(_sum_up, logits_MV.split(rows)), strict=True))
    return (given_N - totals_M[which_N]).double().cpu(), likeliest_M[which_N].cpu() == targets_N


def _sum_up(logits_MV: Tensor) -> tuple[Tensor, Tensor]:
    """Log of the summed exponentials, and the likeliest; in place, for each pass and each copy counts."""
    best_M, likeliest_M = logits_MV.max(dim=1)
    return logits_MV.sub_(best_M[:, None]).exp_().sum(dim=1).log() + best_M, likeliest_M
