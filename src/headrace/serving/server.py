"""The serving process: one checkpoint behind HTTP, until SIGTERM.

`python -m headrace.serving.server --checkpoint DIR --name NAME --version N` is the whole of it, as a
plain process and as the container of a KServe InferenceService alike.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.config import decode
from headrace.errors import ConfigError, HeadraceError, UnavailableError
from headrace.serving.config import ServingConfig

if TYPE_CHECKING:
    from fastapi import FastAPI
    from fastapi import Request as HttpRequest

    from headrace.serving.engine import Engine

WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses that mean all interfaces, and where a caller on this machine finds them."""


def build_app(engine: "Engine") -> "FastAPI":
    """Put an engine behind HTTP; its config holds the limits and defaults."""
    from fastapi import FastAPI

    import headrace
    from headrace.serving import routes
    from headrace.serving.metrics import Measured, Metrics

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(engine.close)

    # FastAPI's documentation pages load their scripts from elsewhere.
    app = FastAPI(title="headrace", version=headrace.__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    metrics = Metrics(engine)
    app.add_middleware(Measured, metrics=metrics)
    for router in (routes.openai_routes, routes.v2_routes, routes.own_routes):
        app.include_router(router(engine, metrics))
    _answer_errors(app)
    return app


def _answer_errors(app: "FastAPI") -> None:
    """Give every exception a status and one line, in the shape of the protocol spoken."""
    from fastapi.responses import JSONResponse, Response
    from starlette.exceptions import HTTPException

    from headrace.serving.answering import ClientLeftError
    from headrace.serving.refusals import error_body, plain, status_of

    async def refuse(request: "HttpRequest", error: Exception) -> Response:
        status = status_of(error)
        return JSONResponse(error_body(request.url.path, plain(error), status, error), status)

    async def no_route(request: "HttpRequest", error: Exception) -> Response:
        status = getattr(error, "status_code", 404)
        line = (
            f"{request.method} {request.url.path}: {getattr(error, 'detail', error)}. See /openapi.json for the routes."
        )
        return JSONResponse(error_body(request.url.path, line, status), status)

    async def left(request: "HttpRequest", error: Exception) -> Response:
        return Response(status_code=499)

    app.add_exception_handler(HTTPException, no_route)
    app.add_exception_handler(ClientLeftError, left)
    app.add_exception_handler(HeadraceError, refuse)
    app.add_exception_handler(Exception, refuse)


def bind(config: ServingConfig) -> socket.socket:
    """Take the port of `config` without listening on it yet.

    Raises:
        UnavailableError: It is taken, or not this machine's or user's to take.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise _not_ours(config, error) from error
    return listener


def _not_ours(config: ServingConfig, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"{config.host}:{config.port} cannot be listened on ({error.strerror}). "
        "Stop what holds it, or give another host or port."
    )


def url_of(listener: socket.socket) -> str:
    """Where a caller on this machine reaches `listener`."""
    host, port = listener.getsockname()[:2]
    host = WILDCARDS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(checkpoint_uri: str | Path, name: str, version: str, config: ServingConfig) -> None:
    """Serve a checkpoint until SIGTERM or SIGINT; requests under way get `grace_seconds` to end.

    Prints one line with the URL once requests are answered.

    Args:
        checkpoint_uri: A sealed Checkpoint, local or `gs://`.
        name: What requests call the model.
        version: Number of its registered version; empty where it is none.
        config: Where to listen, limits and defaults.

    Raises:
        UnavailableError: The port cannot be had; nothing has been loaded yet.
        IntegrityError: The checkpoint is missing, short or altered.
        MismatchError: Its parts do not belong together.
    """
    with contextlib.closing(bind(config)) as listener:
        import uvicorn

        from headrace.serving.engine import load_engine

        app = build_app(load_engine(checkpoint_uri, name, version, config))
        try:
            # Two processes may bind one port as long as neither listens on it.
            listener.listen()
        except OSError as error:
            raise _not_ours(config, error) from error
        said = f"{name} version {version}" if version else name
        print(f"{said} answers at {url_of(listener)}", flush=True)
        settings = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=config.grace_seconds
        )
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(settings).run(sockets=[listener])


def _end_with_parent() -> None:
    """Stop as SIGTERM would when standard input closes, which it does when the process holding it dies."""

    def wait() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line of the serving process."""
    parser = argparse.ArgumentParser(prog="python -m headrace.serving.server", description="Serve one checkpoint.")
    parser.add_argument("--checkpoint", required=True, help="directory or gs:// URI of a sealed checkpoint")
    parser.add_argument("--name", required=True, help="what requests call the model")
    parser.add_argument("--version", default="", help="registered version")
    parser.add_argument("--host", help="address to listen on")
    parser.add_argument("--port", type=int, help="port to listen on; 0 takes any free one")
    parser.add_argument("--config", default="{}", help="a ServingConfig as JSON; --host and --port override it")
    parser.add_argument("--end-with-stdin", action="store_true", help="stop when standard input closes")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve as the command line says; an error is one line on standard error and the exit status."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        config = _config(options)
        if options.end_with_stdin:
            _end_with_parent()
        serve(options.checkpoint, options.name, options.version, config)
    except HeadraceError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _config(options: argparse.Namespace) -> ServingConfig:
    try:
        values = json.loads(options.config)
    except ValueError as error:
        raise ConfigError(f"--config={options.config!r} is no JSON ({error}). Write an object.") from error
    given = {key: getattr(options, key) for key in ("host", "port") if getattr(options, key) is not None}
    return replace(decode(ServingConfig, values), **given)


if __name__ == "__main__":
    sys.exit(main())
