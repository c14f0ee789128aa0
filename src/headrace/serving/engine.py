"""Completions from one checkpoint, many at a time, by one worker thread.

The worker advances every running completion by a token in turn. Each has its own key-value cache and
sampler, so that an answer never depends on what else is being asked, and a short completion never
waits for a long one.
"""

import collections
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch

from headrace import devices
from headrace.artifacts import MaskContract
from headrace.data.tokenizer import load_tokenizer
from headrace.errors import ConfigError, UnavailableError
from headrace.models import generation, pretrained
from headrace.models.gptj import GPTJ
from headrace.serving.config import ServingConfig
from headrace.serving.job import Emit, Job, Piece, PromptTooLongError, Request
from headrace.serving.text import TextStream

IDLE_SECONDS = 0.5


class Tokenizer(Protocol):
    """What serving needs of `headrace.data.tokenizer.TextTokenizer`."""

    @property
    def eos_id(self) -> int:
        """The token that ends a document."""

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`; bytes that are no UTF-8 become U+FFFD."""


class Engine:
    """A loaded model that completes prompts under the mask it was trained with.

    Args:
        model: In eval mode.
        tokenizer: The one whose ids the embedding rows stand for.
        mask: "prefix" lets every prompt token see the whole prompt, "causal" only what came before it.
        name: Registered name the model is asked for by.
        version: Number of the registered version; empty where it is none.
        digest: Digest of the checkpoint, reported with every answer.
        config: Limits and defaults.
    """

    def __init__(
        self,
        model: GPTJ,
        tokenizer: Tokenizer,
        mask: MaskContract,
        name: str,
        *,
        version: str = "",
        digest: str = "",
        config: ServingConfig | None = None,
    ) -> None:
        self.model, self.tokenizer, self.mask = model, tokenizer, mask
        self.name, self.version, self.digest = name, version, digest
        self.config = config or ServingConfig()
        self._waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._worker = threading.Thread(target=self._work, name="headrace-engine", daemon=True)
        self._worker.start()

    @property
    def waiting(self) -> int:
        """Completions accepted and not yet begun."""
        return self._waiting.qsize()

    @property
    def alive(self) -> bool:
        """Whether the worker still makes completions."""
        return self._worker.is_alive()

    def check(self, request: Request) -> None:
        """Refuse a request that cannot be answered whole.

        Raises:
            ConfigError: An empty prompt, or an id the model has no row for.
            PromptTooLongError: Prompt and `max_tokens` together exceed the context.
        """
        rows, context = self.model.config.vocab_size, self.model.config.context_tokens
        given, wanted = len(request.prompt), request.sampling.max_tokens
        if not given:
            raise ConfigError("The prompt is empty, and a completion needs something to follow. Give at least a token.")
        stray = next((token for token in request.prompt if not 0 <= token < rows), None)
        if stray is not None:
            raise ConfigError(f"Prompt token {stray} is no id of this model. Give ids from 0 to {rows - 1}.")
        if given + wanted > context:
            raise PromptTooLongError(
                f"The prompt has {given} tokens and max_tokens={wanted} asks for as many more, but this model's "
                f"context is {context} tokens. Shorten the prompt or lower max_tokens."
            )

    def submit(self, requests: Sequence[Request], emit: Callable[[int, Piece | Exception], None]) -> list[Job]:
        """Queue completions; all of them are accepted or none.

        Args:
            requests: What to complete.
            emit: Called from the worker's thread with the index of the request and its next piece.

        Raises:
            ConfigError: A request cannot be answered (see `check`).
            UnavailableError: Too many completions wait already.
        """
        for request in requests:
            self.check(request)
        if self.waiting + len(requests) > self.config.max_waiting:
            raise UnavailableError(
                f"{self.waiting} completions wait, and {len(requests)} more would exceed "
                f"max_waiting={self.config.max_waiting}. Ask again later."
            )
        jobs = [self._job(request, _numbered(emit, index)) for index, request in enumerate(requests)]
        for job in jobs:
            self._waiting.put(job)
        return jobs

    def complete(self, request: Request) -> Piece:
        """Make one completion and wait for it; its whole text comes as a single piece.

        Raises:
            ConfigError: The request cannot be answered (see `check`).
            UnavailableError: Too many completions wait already, or the engine was closed.
        """
        pieces: queue.SimpleQueue[Piece | Exception] = queue.SimpleQueue()
        self.submit([request], lambda _, piece: pieces.put(piece))
        text = ""
        while True:
            piece = pieces.get()
            if isinstance(piece, Exception):
                raise piece
            text += piece.text
            if piece.finish:
                return Piece(text, piece.finish, piece.tokens)

    def close(self) -> None:
        """End the worker; whoever still waits for a completion is told that it will not come."""
        self._closing.set()
        self._worker.join()

    def _job(self, request: Request, emit: Emit) -> Job:
        sampling = request.sampling
        tokens = generation.stream(
            self.model,
            request.prompt,
            mask=self.mask,
            max_new_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            stop_ids=(self.tokenizer.eos_id,),
            seed=sampling.seed,
        )
        return Job(tokens, TextStream(self.tokenizer.decode, sampling.stop), request, self.tokenizer.eos_id, emit)

    # Entered once for the whole thread: generators that each entered inference mode for themselves
    # would leave it in an order that is not the one they entered it in.
    @torch.inference_mode()
    def _work(self) -> None:
        running: collections.deque[Job] = collections.deque()
        while not self._closing.is_set():
            self._admit(running)
            for _ in range(len(running)):
                job = running.popleft()
                if job.advance():
                    running.append(job)
        while not self._waiting.empty():
            running.append(self._waiting.get())
        for job in running:
            job.emit(UnavailableError(f"The server of {self.name} is stopping. Ask again once it is back."))

    def _admit(self, running: "collections.deque[Job]") -> None:
        """Begin what waits, up to `max_batch`; with nothing to do, sleep until a job comes."""
        while len(running) < self.config.max_batch:
            try:
                running.append(self._waiting.get(block=not running, timeout=IDLE_SECONDS))
            except queue.Empty:
                return


def _numbered(emit: Callable[[int, Piece | Exception], None], index: int) -> Emit:
    return lambda piece: emit(index, piece)


def load_engine(checkpoint_uri: str | Path, name: str, version: str, config: ServingConfig) -> Engine:
    """Load and verify a checkpoint and make its first token, so that the first request meets a warm model.

    Raises:
        IntegrityError: The checkpoint is missing, short or altered, or holds another tokenizer than its own.
        MismatchError: It is an artifact of another kind.
    """
    loaded = pretrained.load(checkpoint_uri, devices.pick().torch)
    mask, tokenizer = loaded.checkpoint.facts.mask, load_tokenizer(loaded.tokenizer_file)
    next(generation.stream(loaded.model, [tokenizer.eos_id], mask=mask, max_new_tokens=1), None)
    digest = loaded.checkpoint.digest
    return Engine(loaded.model, tokenizer, mask, name, version=version, digest=digest, config=config)
