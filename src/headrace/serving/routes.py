"""The HTTP routes: each decodes its protocol, submits to the engine, and answers in the same protocol."""

import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response, StreamingResponse

from headrace.serving import v2
from headrace.serving.answering import pieces_of, read_json, whole
from headrace.serving.engine import Engine
from headrace.serving.job import Piece
from headrace.serving.metrics import Metrics
from headrace.serving.options import check_model
from headrace.serving.protocol import (
    Answers,
    CompletionRequest,
    completion_requests,
    echoes,
    model_card,
    parse_completion,
)
from headrace.serving.refusals import error_body, plain, status_of

BUG = 500
LAST_EVENT = "data: [DONE]\n\n"


def openai_routes(engine: Engine, metrics: Metrics) -> APIRouter:
    """`/v1/completions` and `/v1/models`."""
    router, created = APIRouter(prefix="/v1"), int(time.time())

    @router.post("/completions")
    async def create_completion(http: HttpRequest) -> Response:
        """Complete one or several prompts, whole or as server-sent events."""
        asked = parse_completion(await read_json(http, engine.config.max_body_bytes), engine)
        requests = await run_in_threadpool(completion_requests, asked, engine)
        prompt_tokens = sum(len(request.prompt) for request in requests[:: asked.n])
        pieces = pieces_of(engine, requests, metrics)
        metrics.prompt_tokens.inc(prompt_tokens)
        answers, starts = Answers(engine, prompt_tokens), echoes(asked, engine)
        if asked.stream:
            return StreamingResponse(events(pieces, starts, answers, asked), media_type="text/event-stream")
        async with contextlib.aclosing(pieces):
            return JSONResponse(answers.whole(await whole(pieces, starts, http)))

    @router.get("/models")
    async def list_models() -> dict[str, Any]:
        """List the one model that is served."""
        return {"object": "list", "data": [model_card(engine, created)]}

    @router.get("/models/{name}")
    async def get_model(name: str) -> dict[str, Any]:
        """Describe the model."""
        check_model(name, engine)
        return model_card(engine, created)

    return router


async def events(
    pieces: AsyncGenerator[tuple[int, Piece]], starts: Sequence[str], answers: Answers, asked: CompletionRequest
) -> AsyncIterator[str]:
    """Server-sent events of a streamed answer; a failure on the way is the last of them."""
    made = 0
    async with contextlib.aclosing(pieces):
        for index, start in enumerate(starts):
            if start:
                yield _event(answers.chunk(index, Piece(start)))
        try:
            async for index, piece in pieces:
                made += piece.tokens
                yield _event(answers.chunk(index, piece))
        except Exception as error:
            status = status_of(error)
            yield _event(error_body("/v1", plain(error), status, error))
            if status == BUG:
                raise
            return
    if asked.stream_options.include_usage:
        yield _event(answers.counts(made))
    yield LAST_EVENT


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def v2_routes(engine: Engine, metrics: Metrics) -> APIRouter:
    """The V2 inference protocol."""
    router = APIRouter(prefix="/v2")

    @router.get("")
    async def describe_server() -> dict[str, Any]:
        """Name and version of the server."""
        return v2.server_metadata()

    @router.get("/health/live")
    async def live() -> dict[str, bool]:
        """Answer at all."""
        return {"live": True}

    @router.get("/health/ready")
    async def ready() -> JSONResponse:
        """Say whether completions can be made."""
        return JSONResponse({"ready": engine.alive}, 200 if engine.alive else 503)

    @router.get("/models/{name}")
    @router.get("/models/{name}/versions/{version}")
    async def describe_model(name: str, version: str | None = None) -> dict[str, Any]:
        """Tensors, version and checkpoint of the model."""
        check_model(name, engine, version)
        return v2.model_metadata(engine)

    @router.get("/models/{name}/ready")
    @router.get("/models/{name}/versions/{version}/ready")
    async def model_ready(name: str, version: str | None = None) -> JSONResponse:
        """Say whether the model makes completions."""
        check_model(name, engine, version)
        return JSONResponse({"name": name, "ready": engine.alive}, 200 if engine.alive else 503)

    @router.post("/models/{name}/infer")
    @router.post("/models/{name}/versions/{version}/infer")
    async def infer(http: HttpRequest, name: str, version: str | None = None) -> dict[str, Any]:
        """Complete every prompt of the input tensor."""
        check_model(name, engine, version)
        body = await read_json(http, engine.config.max_body_bytes)
        request_id, requests = await run_in_threadpool(v2.parse_infer, body, engine)
        pieces = pieces_of(engine, requests, metrics)
        metrics.prompt_tokens.inc(sum(len(request.prompt) for request in requests))
        async with contextlib.aclosing(pieces):
            return v2.infer_body(engine, request_id, await whole(pieces, [""] * len(requests), http))

    return router


def own_routes(engine: Engine, metrics: Metrics) -> APIRouter:
    """`/health` and `/metrics`, which belong to neither protocol."""
    router = APIRouter()

    @router.get("/health")
    async def health() -> JSONResponse:
        """Say what is served, and whether it can be."""
        facts = {"model": engine.name, "version": engine.version, "checkpoint": engine.digest}
        return JSONResponse({"ready": engine.alive, **facts}, 200 if engine.alive else 503)

    @router.get("/metrics")
    async def scrape() -> Response:
        """All counters in Prometheus' text format."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router
