"""What both protocols let a request say: which model, which prompt, and how its completions are drawn."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from headrace.errors import ConfigError
from headrace.serving.config import ServingConfig
from headrace.serving.engine import Engine
from headrace.serving.job import SEEDS, Sampling


class UnknownModelError(ConfigError):
    """A model, or a version of it, that this server does not hold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What a request may say about how its completions are drawn, in either protocol."""

    max_tokens: int | None = None
    """None takes the server's `max_new_tokens`."""
    temperature: float | None = None
    """None takes the server's."""
    top_p: float = 1.0
    top_k: int = 0
    """Not OpenAI's; 0 leaves all tokens in."""
    seed: int | None = None
    """None draws another for every prompt."""
    stop: str | tuple[str, ...] = ()

    def samplings(self, config: ServingConfig, n: int = 1) -> list[Sampling]:
        """How each of the `n` completions of one prompt is drawn; they differ by their seeds alone.

        Raises:
            ConfigError: A value that nothing can be drawn with.
        """
        first = Sampling(
            max_tokens=config.max_new_tokens if self.max_tokens is None else self.max_tokens,
            temperature=config.temperature if self.temperature is None else self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            seed=secrets.randbelow(SEEDS) if self.seed is None else self.seed,
            stop=(self.stop,) if isinstance(self.stop, str) else self.stop,
        )
        return [replace(first, seed=(first.seed + index) % SEEDS) for index in range(n)]


def check_model(name: str, engine: Engine, version: str | None = None) -> None:
    """Refuse a model or version that is not the one served.

    Raises:
        UnknownModelError: It is another.
    """
    if name != engine.name:
        raise UnknownModelError(f"There is no model {name!r} here. Ask for {engine.name!r}.")
    if version is not None and version != engine.version:
        raise UnknownModelError(f"Version {version} of {name} is not served here. Ask for {engine.version or 'none'}.")


def encode_prompt(prompt: str | Sequence[int], engine: Engine) -> list[int]:
    """Token ids of a prompt that may be given as such.

    Raises:
        ConfigError: Text with half a surrogate pair, which no UTF-8 can hold.
    """
    if not isinstance(prompt, str):
        return list(prompt)
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"The prompt is no Unicode text at character {error.start}. Send valid UTF-8.") from error
    return list(engine.tokenizer.encode(prompt))
