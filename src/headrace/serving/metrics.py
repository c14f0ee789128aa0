"""What Prometheus scrapes from `/metrics`: requests, latencies, tokens, and what is under way."""

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from headrace.serving.engine import Engine

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LATENCY_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
NO_ROUTE = "none"
"""Label of requests to paths that do not exist, which would otherwise each make a series."""


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        own = {"namespace": "headrace", "registry": self.registry}
        self.requests = Counter("requests", "Requests answered.", ("route", "status"), **own)  # type: ignore[arg-type]
        self.seconds = Histogram(
            "request_seconds",
            "From a request's first byte to its answer's last.",
            ("route",),
            buckets=LATENCY_SECONDS,
            **own,  # type: ignore[arg-type]
        )
        self.in_flight = Gauge("requests_in_flight", "Requests being answered.", **own)  # type: ignore[arg-type]
        self.prompt_tokens = Counter("prompt_tokens", "Tokens read in prompts.", **own)  # type: ignore[arg-type]
        self.completion_tokens = Counter("completion_tokens", "Tokens generated.", **own)  # type: ignore[arg-type]
        waiting = Gauge("completions_waiting", "Completions accepted and not yet begun.", **own)  # type: ignore[arg-type]
        waiting.set_function(lambda: engine.waiting)
        Info("model", "What is served.", **own).info(  # type: ignore[arg-type]
            {"name": engine.name, "version": engine.version, "checkpoint": engine.digest}
        )

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self.registry)


class Measured:
    """ASGI middleware that counts and times requests to the last byte of their answer, streamed or not."""

    def __init__(self, app: "ASGIApp", metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve one request and record it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 499

        async def noting(message: "Message") -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._metrics.in_flight.track_inprogress():
            try:
                await self._app(scope, receive, noting)
            except Exception:
                status = 500  # answered by Starlette's outermost layer, which this one is inside of
                raise
            finally:
                route = getattr(scope.get("route"), "path", NO_ROUTE)
                self._metrics.requests.labels(route, str(status)).inc()
                self._metrics.seconds.labels(route).observe(time.perf_counter() - started)
