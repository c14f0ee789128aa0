"""Between the event loop and the worker: a request's body in, the pieces of its completions out."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any

from fastapi import Request as HttpRequest

from headrace.errors import ConfigError
from headrace.serving.engine import Engine
from headrace.serving.job import Job, Piece, Request
from headrace.serving.metrics import Metrics


class ClientLeftError(Exception):
    """Nobody waits for the answer any more."""


async def read_json(request: HttpRequest, limit_bytes: int) -> Mapping[str, Any]:
    """Read a body that must be one JSON object.

    Raises:
        ConfigError: It is too large, no JSON, or no object.
    """
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > limit_bytes:
            raise ConfigError(f"The body exceeds max_body_bytes={limit_bytes:,}. Send several smaller requests.")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"The body is no JSON ({error}). Send one JSON object.") from error
    if not isinstance(value, dict):
        raise ConfigError(f"The body is a JSON {type(value).__name__}. Send one JSON object.")
    return value


def pieces_of(engine: Engine, requests: Sequence[Request], metrics: Metrics) -> AsyncGenerator[tuple[int, Piece]]:
    """Submit completions now, and yield their pieces as they come, each with the index of its request.

    Closing the generator cancels what is unfinished.

    Raises:
        ConfigError: A request cannot be answered.
        UnavailableError: The server has too much to do, or is stopping.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[tuple[int, Piece | Exception]] = asyncio.Queue()

    def emit(index: int, piece: Piece | Exception) -> None:
        # The loop is closed only when the process ends, and then nobody listens.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(arrived.put_nowait, (index, piece))

    jobs = engine.submit(requests, emit)
    return _arrivals(jobs, arrived, metrics)


async def _arrivals(
    jobs: Sequence[Job], arrived: "asyncio.Queue[tuple[int, Piece | Exception]]", metrics: Metrics
) -> AsyncGenerator[tuple[int, Piece]]:
    unfinished = len(jobs)
    try:
        while unfinished:
            index, piece = await arrived.get()
            if isinstance(piece, Exception):
                raise piece
            unfinished -= piece.finish is not None
            metrics.completion_tokens.inc(piece.tokens)
            yield index, piece
    finally:
        for job in jobs:
            job.cancel()


async def whole(pieces: AsyncIterator[tuple[int, Piece]], starts: Sequence[str], request: HttpRequest) -> list[Piece]:
    """Join the pieces of each completion into one, in the order of the requests.

    Args:
        pieces: Of all completions, as they come.
        starts: Text that each completion begins with, one per completion.
        request: Asked with every piece whether its client still waits.

    Raises:
        ClientLeftError: It does not.
    """
    texts, last = list(starts), [Piece("")] * len(starts)
    async for index, piece in pieces:
        texts[index] += piece.text
        last[index] = piece
        if await request.is_disconnected():
            raise ClientLeftError
    return [Piece(text, piece.finish, piece.tokens) for text, piece in zip(texts, last, strict=True)]
