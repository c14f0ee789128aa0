"""GPT-J as lm-evaluation-harness sees a model, so that the harness's tasks run unchanged.

Requests are handled as the harness's own models handle them: whitespace at the end of a context moves to
the continuation, an empty context becomes `<|endoftext|>`, what does not fit is cut from the left.
The mask is what differs: under `prefix` a context is seen whole, as it was in training, while a scored token is
still seen by later ones only.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from headrace import devices
from headrace.artifacts import MaskContract
from headrace.data.tokenizer import TextTokenizer, load_tokenizer
from headrace.errors import ConfigError, DataError
from headrace.evaluation.batching import Size, batches
from headrace.evaluation.decoding import Manner, before, read_manner, stopper
from headrace.evaluation.scoring import Pair, Score, cut, score_pairs
from headrace.models.generation import generate
from headrace.models.gptj import GPTJ
from headrace.models.pretrained import load


class TextScore(NamedTuple):
    """What a model makes of a whole text."""

    nats: float
    """Log-likelihood of all its tokens, each given those before and `<|endoftext|>` before the first."""
    tokens: int


class HeadraceLM(LM):  # type: ignore[misc]
    """A model and its tokenizer behind the harness's three questions.

    Args:
        model: A GPT-J in evaluation mode, on any device.
        tokenizer: The tokenizer it was trained with.
        mask: The mask it was trained under.
        max_batch_tokens: Tokens of one forward pass at most.
        bos_eos: Put `<|endoftext|>` before every context, as for GPT-J's published numbers.
        seed: What sampled generation draws from.
        on_progress: Told the share of a batch of requests that is done.
    """

    def __init__(
        self,
        model: GPTJ,
        tokenizer: TextTokenizer,
        mask: MaskContract = "causal",
        *,
        max_batch_tokens: int = 2**13,
        bos_eos: bool = False,
        seed: int = 0,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.tokenizer, self.mask = model, tokenizer, mask
        self.max_batch_tokens, self.bos_eos, self.seed = max_batch_tokens, bos_eos, seed
        self.on_progress = on_progress
        self.truncated_requests = 0
        """Requests that lost tokens from the left, since construction."""
        self.truncated_tokens = 0
        """Tokens they lost."""

    @classmethod
    def from_checkpoint(cls, uri: str | Path, **options: Any) -> "HeadraceLM":
        """Open a sealed checkpoint under the mask it was trained with; `options` are the constructor's."""
        pretrained = load(uri, devices.pick().torch)
        tokenizer = load_tokenizer(pretrained.tokenizer_file)
        return cls(pretrained.model, tokenizer, pretrained.checkpoint.facts.mask, **options)

    @property
    def context_tokens(self) -> int:
        """Longest row the model reads."""
        return self.model.config.context_tokens

    @property
    def tokenizer_name(self) -> str:
        """What the harness keys its request caches by."""
        return self.tokenizer.fingerprint

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Score continuations of contexts: nats, and whether greedy decoding would give them.

        Raises:
            DataError: A continuation is empty, or longer than the model's context.
        """
        texts = [(str(context), str(continuation)) for context, continuation in (r.args for r in requests)]
        answers = [(s.loglikelihood, s.greedy) for s in self._score([self._fit(p) for p in self._encode(texts)])]
        for request, answer in zip(requests, answers, strict=True):
            self.cache_hook.add_partial("loglikelihood", request.args, answer)
        return answers

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """Score whole texts after `<|endoftext|>`, in windows that score each token once; nats.

        A text has no prompt, so it is read causally under either mask.
        """
        totals = [score.nats for score in self.score_texts([request.args[0] for request in requests])]
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def score_texts(self, texts: Sequence[str]) -> list[TextScore]:
        """Score whole texts as `loglikelihood_rolling` does, and count their tokens."""
        ids = self.tokenizer.encode_batch(texts)
        windows = [list(cut([self.tokenizer.eos_id, *text.tolist()], 1, self.context_tokens)) for text in ids]
        scores = iter(self._score([pair for pairs in windows for pair in pairs], "causal"))
        nats = [math.fsum(next(scores).loglikelihood for _ in pairs) for pairs in windows]
        return [TextScore(total, len(text)) for total, text in zip(nats, ids, strict=True)]

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Continue contexts until a stop string, `<|endoftext|>` or `max_gen_toks`; greedy unless `do_sample`.

        Raises:
            ConfigError: A generation keyword that is not known here, or no room for so many tokens.
        """
        answers: dict[int, str] = {}
        groups: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(index)
        for indices in groups.values():
            manner = read_manner(requests[indices[0]].args[1])
            contexts = [str(requests[index].args[0]) for index in indices]
            for place, text in self._generate(contexts, manner):
                answers[indices[place]] = text
                self._report(len(answers) / len(requests))
        for index, request in enumerate(requests):
            self.cache_hook.add_partial("generate_until", request.args, answers[index])
        return [answers[index] for index in range(len(requests))]

    def _encode(self, texts: Sequence[tuple[str, str]]) -> Iterator[Pair]:
        """Token ids of contexts and continuations, split where the context's own encoding ends."""
        moved = [move_whitespace(*text) for text in texts]
        wanted = list(dict.fromkeys(text for context, rest in moved for text in (context, context + rest, rest)))
        ids = {text: row.tolist() for text, row in zip(wanted, self.tokenizer.encode_batch(wanted), strict=True)}
        for context, rest in moved:
            head, whole = ids[context], ids[context + rest]
            # Where a merge swallows the border, nothing would be left to score: then both are encoded alone.
            tail = whole[len(head) :] or ids[rest]
            if not tail:
                raise DataError(f"The continuation of {context[-40:]!r} is empty. Remove the example or fill it.")
            yield Pair(self._begin(head), tail)

    def _begin(self, ids: list[int]) -> list[int]:
        """Put `<|endoftext|>` before a context that is empty or, under `bos_eos`, before any."""
        return [self.tokenizer.eos_id, *ids] if self.bos_eos or not ids else ids

    def _fit(self, pair: Pair) -> Pair:
        """Cut a context from the left until the row fits the model, and count what is lost."""
        if len(pair.continuation) > self.context_tokens:
            raise DataError(
                f"A continuation of {len(pair.continuation):,} tokens exceeds the model's context of "
                f"{self.context_tokens:,}. Shorten it, or evaluate a model with a longer context."
            )
        return Pair(self._cut(pair.context, pair.read - self.context_tokens), pair.continuation)

    def _cut(self, ids: Sequence[int], lost: int) -> Sequence[int]:
        """Take `lost` tokens, where that is positive, from the left, and count them."""
        if lost <= 0:
            return ids
        self.truncated_requests += 1
        self.truncated_tokens += lost
        return ids[lost:]

    def _score(self, pairs: Sequence[Pair], mask: MaskContract | None = None) -> list[Score]:
        return score_pairs(
            self.model,
            pairs,
            mask=mask or self.mask,
            max_batch_tokens=self.max_batch_tokens,
            on_progress=self._report,
        )

    def _report(self, share: float) -> None:
        if self.on_progress is not None:
            self.on_progress(share)

    def _generate(self, contexts: Sequence[str], manner: Manner) -> Iterator[tuple[int, str]]:
        """Generate in batches of similar length; give (place in `contexts`, text)."""
        room = self.context_tokens - manner.max_tokens
        if room < 1:
            raise ConfigError(
                f"max_gen_toks={manner.max_tokens} leaves no room for a prompt in the model's context of "
                f"{self.context_tokens:,}. Lower it below that."
            )
        encoded = [self._begin(row.tolist()) for row in self.tokenizer.encode_batch(contexts)]
        prompts = [self._cut(ids, len(ids) - room) for ids in encoded]
        sizes = [Size(len(ids), manner.max_tokens) for ids in prompts]
        for places in batches(sizes, self.max_batch_tokens, context_tokens=self.context_tokens):
            rows = generate(
                self.model,
                [prompts[place] for place in places],
                mask=self.mask,
                max_new_tokens=manner.max_tokens,
                stop=stopper(self.tokenizer.decode, manner.until),
                stop_ids=(self.tokenizer.eos_id,),
                seed=self.seed,
                **manner.sampling,
            )
            texts = (before(self.tokenizer.decode(row), manner.until) for row in rows)
            yield from zip(places, texts, strict=True)


def move_whitespace(context: str, continuation: str) -> tuple[str, str]:
    """Let whitespace begin a continuation rather than end a context, as byte-pair encodings have it."""
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation
