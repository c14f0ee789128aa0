"""Continue prompts token by token: greedy or sampled, in batches, each token costing one position of work.

A batch of prompts is read at once, padded to the longest; rows then advance together and leave when they
end, so what a row says does not depend on its neighbours. A prompt that would leave no room for
`max_new_tokens` loses its beginning: of a long text the end is what is continued.

Letters: B rows, T positions, V vocabulary.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headrace.artifacts import MaskContract
from headrace.config import nearest
from headrace.errors import ConfigError
from headrace.models.cache import KVCache
from headrace.models.gptj import GPTJ
from headrace.models.masks import prefix_lm

Stop = Callable[[list[int]], bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoding:
    """How to choose tokens and when to end; what `generate` and `stream` take as keywords."""

    mask: MaskContract
    """Whether a prompt sees all of itself or only what came before; what the model was trained under."""
    max_new_tokens: int
    temperature: float = 0.0
    """Divides the logits; 0 takes the likeliest token."""
    top_k: int = 0
    """Choose among this many likeliest tokens; 0 is all."""
    top_p: float = 1.0
    """Choose among the fewest likeliest tokens that hold this share of probability."""
    stop: Stop | None = None
    """Told the tokens so far; True ends a row after its latest."""
    stop_ids: Sequence[int] = ()
    """Tokens that end a row and are not part of it."""
    seed: int = 0
    """With equal seeds and prompts, equal tokens; each row draws for itself."""

    def __post_init__(self) -> None:
        if self.mask not in ("causal", "prefix"):
            raise ConfigError(f"mask={self.mask!r} is not a choice. {nearest(str(self.mask), ('causal', 'prefix'))}")
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens={self.max_new_tokens} asks for nothing. Set it to 1 or more.")
        if not 0 <= self.temperature < float("inf"):
            raise ConfigError(f"temperature={self.temperature} is not 0 or more. Set 0 for the likeliest token.")
        if self.top_k < 0:
            raise ConfigError(f"top_k={self.top_k} is negative. Set 0 to choose among all tokens.")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p={self.top_p} is not a share above 0 and at most 1. Set 1 for all tokens.")


def generate(
    model: GPTJ,
    prompts: Sequence[Sequence[int]],
    *,
    mask: MaskContract,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    stop: Stop | None = None,
    stop_ids: Sequence[int] = (),
    seed: int = 0,
) -> list[list[int]]:
    """Continue each prompt, all in one batch; `Decoding` explains the keywords.

    Returns:
        The new tokens of each prompt, without the stop id that ended them.

    Raises:
        ConfigError: A keyword out of range, an empty prompt, or more new tokens than the context has room for.
    """
    decoding = Decoding(
        mask=mask,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        stop=stop,
        stop_ids=stop_ids,
        seed=seed,
    )
    continuations: list[list[int]] = [[] for _ in prompts]
    for row, token in _decode(model, prompts, decoding):
        continuations[row].append(token)
    return continuations


def stream(
    model: GPTJ,
    prompt: Sequence[int],
    *,
    mask: MaskContract,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    stop: Stop | None = None,
    stop_ids: Sequence[int] = (),
    seed: int = 0,
) -> Iterator[int]:
    """Continue one prompt and give each token as it is chosen; they are those of `generate`.

    Raises:
        ConfigError: As `generate`, and before the first token.
    """
    decoding = Decoding(
        mask=mask,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        stop=stop,
        stop_ids=stop_ids,
        seed=seed,
    )
    tokens = _decode(model, [prompt], decoding)
    return (token for _, token in tokens)


def _decode(model: GPTJ, prompts: Sequence[Sequence[int]], decoding: Decoding) -> Iterator[tuple[int, int]]:
    """Check the prompts now, and give (row, token) as they come."""
    room = model.config.context_tokens - decoding.max_new_tokens
    if room < 1:
        raise ConfigError(
            f"max_new_tokens={decoding.max_new_tokens} leaves no room for a prompt in the model's context of "
            f"{model.config.context_tokens:,}. Lower it below that."
        )
    for row, prompt in enumerate(prompts):
        if not len(prompt):
            raise ConfigError(f"Prompt {row} of {len(prompts)} has no tokens. Begin it with the end-of-text token.")
    return _continue([list(prompt[-room:]) for prompt in prompts], model, decoding)


def _continue(prompts: list[list[int]], model: GPTJ, decoding: Decoding) -> Iterator[tuple[int, int]]:
    """Read the prompts, then choose, feed back and drop the rows that have ended, until none is left."""
    if not prompts:
        return
    weight, longest = model.embedding.weight, max(map(len, prompts))
    capacity_tokens = longest + decoding.max_new_tokens
    cache = KVCache(model.config, len(prompts), capacity_tokens, weight.device, weight.dtype)
    live = list(range(len(prompts)))
    # A generator for each row: what one draws does not depend on how long its neighbours go on.
    draws = [random.Random(f"{decoding.seed}:{row}") for row in live]
    said: list[list[int]] = [[] for _ in prompts]
    logits_BV = _read(model, prompts, decoding.mask, cache)
    while live:
        chosen = choose(logits_BV, decoding, [draws[row] for row in live])
        going = []
        for place, (row, token) in enumerate(zip(live, chosen, strict=True)):
            if token in decoding.stop_ids:
                continue
            said[row].append(token)
            yield row, token
            if len(said[row]) < decoding.max_new_tokens and not (decoding.stop and decoding.stop(said[row])):
                going.append(place)
        if len(going) < len(live):
            cache.keep(going)
            live = [live[place] for place in going]
        if live:
            logits_BV = _step(model, [said[row][-1] for row in live], cache)


@torch.inference_mode()
def _read(model: GPTJ, prompts: list[list[int]], mask: MaskContract, cache: KVCache) -> Tensor:
    """Read all prompts at once, padded on the right; logits_BV after the last token of each."""
    lengths = [len(prompt) for prompt in prompts]
    tokens_BT = torch.zeros(len(prompts), max(lengths), dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        tokens_BT[row, : len(prompt)] = torch.tensor(prompt)
    device = model.embedding.weight.device
    hidden_BTD = model.hidden(tokens_BT.to(device), prefix_lm(lengths).to(device) if mask == "prefix" else None, cache)
    cache.trim(lengths)
    last_B = torch.tensor(lengths, device=device) - 1
    logits_BV: Tensor = model.head(hidden_BTD[torch.arange(len(prompts), device=device), last_B])
    return logits_BV


@torch.inference_mode()
def _step(model: GPTJ, tokens: list[int], cache: KVCache) -> Tensor:
    """Read one more token of each row; logits_BV after it."""
    tokens_B1 = torch.tensor(tokens, device=model.embedding.weight.device)[:, None]
    logits_BV: Tensor = model(tokens_B1, cache=cache)[:, 0]
    return logits_BV


def choose(logits_BV: Tensor, decoding: Decoding, draws: Sequence[random.Random]) -> list[int]:
    """Take the likeliest token of each row, or draw one with the row's own generator."""
    if decoding.temperature == 0:
        return [int(token) for token in logits_BV.argmax(dim=-1)]
    share_BV = distribution(logits_BV, decoding.temperature, decoding.top_k, decoding.top_p)
    below_BV = share_BV.cumsum(dim=-1)
    # 32 bits, so that the product stays below the total and the last token of no probability is never met.
    draw_B1 = torch.tensor([[draw.getrandbits(32) / 2**32] for draw in draws], dtype=torch.float64)
    return [int(token) for token in torch.searchsorted(below_BV, draw_B1 * below_BV[:, -1:], right=True)]


def distribution(logits_BV: Tensor, temperature: float, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Turn logits into the probabilities sampled from: share_BV, float64 on the CPU, summing to 1.

    The `top_k` likeliest tokens are kept, then of these the fewest that hold `top_p` of what they hold
    together; the token that reaches the share is kept. Equal logits rank by token id.

    Source: Holtzman et al. 2020, arXiv:1904.09751 (nucleus sampling).
    """
    share_BV = (logits_BV.double().cpu() / temperature).softmax(dim=-1)
    ranked_BV, order_BV = share_BV.sort(dim=-1, descending=True, stable=True)
    if top_k:
        ranked_BV[:, top_k:] = 0
        ranked_BV /= ranked_BV.sum(dim=-1, keepdim=True)
    if top_p < 1:
        before_BV = ranked_BV.cumsum(dim=-1) - ranked_BV
        ranked_BV[before_BV >= top_p] = 0
        ranked_BV /= ranked_BV.sum(dim=-1, keepdim=True)
    return torch.zeros_like(share_BV).scatter_(-1, order_BV, ranked_BV)
