"""How a task of the harness wants text generated: until when, how long, greedily or drawn."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.config import nearest
from headrace.errors import ConfigError

DEFAULT_GEN_TOKENS = 256
"""What the harness generates where a task names no `max_gen_toks`."""
LENGTH_KEYS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
KEYS = (*LENGTH_KEYS, "until", "do_sample", "temperature", "top_k", "top_p")


@dataclass(frozen=True, slots=True)
class Manner:
    """How a task wants text generated."""

    max_tokens: int
    until: tuple[str, ...]
    sampling: dict[str, Any]
    """`temperature`, `top_k` and `top_p` of `headrace.models.generation.generate`; empty for greedy."""


def read_manner(values: Mapping[str, Any]) -> Manner:
    """Read the harness's `generation_kwargs`; without `do_sample` or a temperature, decoding is greedy.

    Raises:
        ConfigError: A keyword that would be ignored.
    """
    for key in values:
        if key not in KEYS:
            raise ConfigError(f"generation_kwargs has {key!r}, which is not known. {nearest(key, KEYS)}")
    until = values.get("until") or ()
    length = next((values[key] for key in LENGTH_KEYS if values.get(key) is not None), DEFAULT_GEN_TOKENS)
    temperature = float(values.get("temperature", 1.0 if values.get("do_sample") else 0.0))
    sampling: dict[str, Any] = {}
    if values.get("do_sample", temperature > 0) and temperature > 0:
        chosen = {"top_k": values.get("top_k"), "top_p": values.get("top_p")}
        sampling = {"temperature": temperature, **{key: value for key, value in chosen.items() if value is not None}}
    return Manner(int(length), (until,) if isinstance(until, str) else tuple(filter(None, until)), sampling)


def stopper(decode: Callable[[Sequence[int]], str], until: Sequence[str]) -> Callable[[list[int]], bool] | None:
    """Say whether the latest tokens complete a stop string; None where there is none to wait for.

    Only so many tokens are decoded as could hold one: each that counts stands for a byte or more.
    """
    if not until:
        return None
    reach = max(len(stop.encode()) for stop in until)

    def completed(ids: list[int]) -> bool:
        tail = decode(ids[-reach:])
        return any(stop in tail for stop in until)

    return completed


def before(text: str, until: Iterable[str]) -> str:
    """The text up to the first stop string in it."""
    for stop in until:
        text = text.split(stop, 1)[0]
    return text
