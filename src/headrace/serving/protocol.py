"""OpenAI's completions protocol: requests decoded and refused by name, answers in the client's own types.

Source: https://platform.openai.com/docs/api-reference/completions
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from openai.types import Completion, CompletionChoice, CompletionUsage, Model

from headrace.config import decode
from headrace.errors import ConfigError
from headrace.serving.engine import Engine
from headrace.serving.job import Finish, Piece, Request
from headrace.serving.options import Options, check_model, encode_prompt

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (),
    "presence_penalty": (0,),
    "suffix": ("",),
}
"""Parameters of OpenAI's that are not served, with the values that ask for nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamOptions:
    """What a streamed answer contains beside its text."""

    include_usage: bool = False
    """Whether a last chunk counts the tokens."""
    include_obfuscation: bool = False
    """Accepted and not done: answers are not padded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CompletionRequest(Options):
    """The body of `POST /v1/completions`."""

    model: str
    prompt: str | tuple[str, ...] | tuple[int, ...] | tuple[tuple[int, ...], ...]
    """Text or token ids, one prompt or several."""
    n: int = 1
    """Completions per prompt."""
    echo: bool = False
    """Whether the text of the prompt is put before that of the completion."""
    stream: bool = False
    stream_options: StreamOptions = field(default_factory=StreamOptions)
    user: str = ""
    """Accepted and not used."""

    @property
    def prompts(self) -> Sequence[str | Sequence[int]]:
        """The prompts one by one."""
        single = isinstance(self.prompt, str) or (self.prompt and isinstance(self.prompt[0], int))
        return (self.prompt,) if single else self.prompt  # type: ignore[return-value]


def parse_completion(body: Mapping[str, Any], engine: Engine) -> CompletionRequest:
    """Decode the body of a request and refuse what this server cannot do.

    Raises:
        ConfigError: An unknown, missing, mistyped or unsupported parameter.
        UnknownModelError: Another model than the one served.
    """
    for name, neutral in NEUTRAL.items():
        if body.get(name) is not None and body[name] not in neutral:
            raise ConfigError(f"{name}={body[name]!r} is not supported by this server. Leave {name} out.")
    stated = {key: value for key, value in body.items() if value is not None and key not in NEUTRAL}
    request = decode(CompletionRequest, stated)
    check_model(request.model, engine)
    asked, limit = len(request.prompts) * request.n, engine.config.max_completions
    if request.n < 1 or not 1 <= asked <= limit:
        raise ConfigError(
            f"{len(request.prompts)} prompts with n={request.n} ask for {asked} completions, and one request takes "
            f"1 to {limit}. Send several requests."
        )
    return request


def completion_requests(request: CompletionRequest, engine: Engine) -> list[Request]:
    """One request for the engine per choice of the answer, `n` for each prompt in turn."""
    return [
        Request(ids, sampling)
        for ids in (encode_prompt(prompt, engine) for prompt in request.prompts)
        for sampling in request.samplings(engine.config, request.n)
    ]


def echoes(request: CompletionRequest, engine: Engine) -> list[str]:
    """Text that each choice begins with: its prompt where `echo` is asked for, otherwise nothing."""
    texts = [p if isinstance(p, str) else engine.tokenizer.decode(list(p)) for p in request.prompts]
    return [text if request.echo else "" for text in texts for _ in range(request.n)]


def fingerprint(engine: Engine) -> str:
    """Version and checkpoint digest, as every answer carries them."""
    return f"{engine.version or 'unregistered'}-{engine.digest}"


class Answers:
    """Builds the answers to one request; whole or in chunks, they share an id."""

    def __init__(self, engine: Engine, prompt_tokens: int) -> None:
        self._engine = engine
        self._prompt_tokens = prompt_tokens
        self._id, self._created = f"cmpl-{uuid.uuid4().hex}", int(time.time())

    def whole(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """The answer in one body, a piece per choice."""
        choices = [self._choice(index, piece.text, piece.finish) for index, piece in enumerate(pieces)]
        return self._body(choices, self._usage(sum(piece.tokens for piece in pieces)))

    def chunk(self, index: int, piece: Piece) -> dict[str, Any]:
        """The next text of choice `index`."""
        return self._body([self._choice(index, piece.text, piece.finish)])

    def counts(self, completion_tokens: int) -> dict[str, Any]:
        """The chunk that ends a stream with its usage."""
        return self._body([], self._usage(completion_tokens))

    def _choice(self, index: int, text: str, finish: Finish | None) -> CompletionChoice:
        # A chunk before the last has no finish_reason, which the type, made for whole answers, insists on.
        return CompletionChoice.construct(index=index, text=text, finish_reason=finish, logprobs=None)  # type: ignore[arg-type]

    def _usage(self, completion_tokens: int) -> CompletionUsage:
        given, made = self._prompt_tokens, completion_tokens
        return CompletionUsage(prompt_tokens=given, completion_tokens=made, total_tokens=given + made)

    def _body(self, choices: list[CompletionChoice], usage: CompletionUsage | None = None) -> dict[str, Any]:
        body = Completion.construct(
            id=self._id,
            object="text_completion",
            created=self._created,
            model=self._engine.name,
            system_fingerprint=fingerprint(self._engine),
            choices=choices,
        )
        if usage is not None:
            body.usage = usage
        return body.to_dict(mode="json")


def model_card(engine: Engine, created: int) -> dict[str, Any]:
    """The served model as `GET /v1/models` lists it."""
    card = Model(id=engine.name, created=created, object="model", owned_by="headrace").to_dict(mode="json")
    return card | {"version": engine.version, "checkpoint": engine.digest}
