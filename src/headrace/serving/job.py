"""One completion: what is asked for, what comes out piece by piece, and the job that makes it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from headrace.errors import ConfigError
from headrace.serving.text import TextStream

SEEDS = 2**63
HOTTEST = 2
MOST_STOPS = 4
Finish = Literal["stop", "length"]
"""A completion ends at eos or a stop string, or when its `max_tokens` are used up."""


class PromptTooLongError(ConfigError):
    """Prompt and completion do not fit the context together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How one completion is drawn."""

    max_tokens: int
    temperature: float = 0.0
    """0 takes the likeliest token every time."""
    top_p: float = 1.0
    """Smallest probability mass to draw from."""
    top_k: int = 0
    """Most tokens to draw from; 0 leaves all in."""
    seed: int = 0
    stop: tuple[str, ...] = ()
    """Strings that end the completion and are left out of it."""

    def __post_init__(self) -> None:
        """Refuse what nothing can be drawn with; the comparisons refuse NaN as well."""
        if not self.max_tokens >= 1:
            raise ConfigError(f"max_tokens={self.max_tokens} leaves nothing to generate. Give at least 1.")
        if not 0 <= self.temperature <= HOTTEST:
            raise ConfigError(f"temperature={self.temperature} is outside 0 to {HOTTEST}. 0 takes the likeliest.")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p={self.top_p} is no share of the probability. Give one above 0 and up to 1.")
        if not self.top_k >= 0:
            raise ConfigError(f"top_k={self.top_k} is no number of tokens. Give 0 for all of them.")
        if not 0 <= self.seed < SEEDS:
            raise ConfigError(f"seed={self.seed} is outside 0 to {SEEDS - 1}. Give one within.")
        if len(self.stop) > MOST_STOPS or "" in self.stop:
            raise ConfigError(f"stop={list(self.stop)!r} must be up to {MOST_STOPS} strings, none empty. Change it.")


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to make."""

    prompt: Sequence[int]
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that may be sent; the last piece of a completion says why it ended and how long it was."""

    text: str
    finish: Finish | None = None
    tokens: int = 0
    """Tokens of the whole completion, eos left out; 0 before the last piece."""


Emit = Callable[[Piece | Exception], None]


class Job:
    """A completion in the making; its pieces, or the exception that ended it, go to `emit`.

    Args:
        tokens: Generates the completion token by token.
        text: Decodes it and finds the stop strings.
        request: What was asked for.
        eos_id: The token that ends a completion.
        emit: Called with each piece from the thread that calls `advance`.
    """

    def __init__(self, tokens: Iterator[int], text: TextStream, request: Request, eos_id: int, emit: Emit) -> None:
        self.cancelled = False
        self.emit = emit
        self._tokens, self._text = tokens, text
        self._limit, self._eos_id = request.sampling.max_tokens, eos_id

    def cancel(self) -> None:
        """Make no further token: whoever asked has left."""
        self.cancelled = True

    def advance(self) -> bool:
        """Make one token; False when the completion has ended, failed or was cancelled."""
        if self.cancelled:
            return False
        try:
            piece = self._next_piece()
        except Exception as error:
            self.emit(error)
            return False
        if piece.text or piece.finish:
            self.emit(piece)
        return piece.finish is None

    def _next_piece(self) -> Piece:
        token = next(self._tokens, self._eos_id)
        delta = "" if token == self._eos_id else self._text.push(token)
        made = len(self._text.tokens)
        if token != self._eos_id and made < self._limit and not self._text.stopped:
            return Piece(delta)
        delta += self._text.finish()
        cut = self._text.stopped or made < self._limit
        return Piece(delta, "stop" if cut else "length", made)
