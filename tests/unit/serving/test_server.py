"""What clients are told when the server itself is at fault, and where it says that it listens."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from headrace.errors import UnavailableError
from headrace.serving.config import ServingConfig
from headrace.serving.engine import Engine
from headrace.serving.job import Piece, Request, Sampling
from headrace.serving.server import bind, build_app, url_of
from tests.serving_checkpoint import tiny_model, tiny_tokenizer

MODEL, TOKENIZER = tiny_model(), tiny_tokenizer()
SECRET = "a detail of the inside"


class Failing:
    """A tokenizer that fails after some text."""

    eos_id = 351
    encode = staticmethod(TOKENIZER.encode)

    def decode(self, ids: list[int]) -> str:
        if len(ids) == 2:
            raise RuntimeError(SECRET)
        return "x" * len(ids)


@contextlib.contextmanager
def engine_with(tokenizer: Any, **config: Any) -> Iterator[Engine]:
    engine = Engine(MODEL, tokenizer, "prefix", "tiny", config=ServingConfig(**config))
    yield engine
    engine.close()


def ask(engine: Engine, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
    """One request to the application, without a socket in between."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(build_app(engine), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.request(method, path, json=body)

    return asyncio.run(send())


BODY = {"model": "tiny", "prompt": "The river", "max_tokens": 5}
TENSOR = {"name": "prompt", "shape": [1, 1], "datatype": "BYTES", "data": [["The river"]]}


def test_a_bug_is_answered_with_its_kind_alone_in_the_shape_of_the_protocol() -> None:
    with engine_with(Failing()) as engine:
        openai = ask(engine, "POST", "/v1/completions", BODY)
        v2 = ask(engine, "POST", "/v2/models/tiny/infer", {"inputs": [TENSOR]})
    message = "The server failed on this request (RuntimeError). Look into its log."
    assert (openai.status_code, openai.json()["error"]["message"]) == (500, message)
    assert openai.json()["error"]["type"] == "server_error"
    assert (v2.status_code, v2.json()) == (500, {"error": message})


def test_a_bug_in_the_middle_of_a_stream_is_its_last_event() -> None:
    with engine_with(Failing()) as engine:
        events = ask(engine, "POST", "/v1/completions", BODY | {"stream": True}).text.split("\n\n")
    told = [json.loads(event.removeprefix("data: ")) for event in events if event]
    assert told[0]["choices"][0]["text"] == "x"
    assert told[-1]["error"]["type"] == "server_error"
    assert SECRET not in str(told)


def test_too_much_to_do_is_told_with_503_and_a_worker_that_ended_is_not_ready() -> None:
    holding, release = threading.Event(), threading.Event()

    def hold(index: int, piece: Piece | Exception) -> None:
        holding.set()
        release.wait(30)

    with engine_with(TOKENIZER, max_batch=1, max_waiting=1) as engine:
        one = Request([1], Sampling(max_tokens=1))
        engine.submit([one], hold)
        holding.wait(30)
        engine.submit([one], lambda index, piece: None)
        refused = ask(engine, "POST", "/v1/completions", BODY)
        assert ask(engine, "GET", "/v2/health/ready").status_code == 200
        release.set()
    assert refused.status_code == 503
    assert "max_waiting=1" in refused.json()["error"]["message"]
    for path in ("/v2/health/ready", "/v2/models/tiny/ready", "/health"):
        assert (ask(engine, "GET", path).status_code, ask(engine, "GET", path).json()["ready"]) == (503, False)


def test_nested_data_is_read_in_row_major_order() -> None:
    texts = ["The river", "Swiss", "Franc", "Input"]
    flat = {"name": "text_input", "shape": [4], "datatype": "BYTES", "data": texts}
    square = flat | {"shape": [2, 2], "data": [texts[:2], texts[2:]]}
    with engine_with(TOKENIZER, temperature=0.0) as engine:
        told = [ask(engine, "POST", "/v2/models/tiny/infer", {"inputs": [t]}).json() for t in (flat, square)]
    assert told[0]["outputs"] == told[1]["outputs"]
    assert len(set(told[0]["outputs"][0]["data"])) == 4


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_the_url_told_is_one_that_a_caller_on_this_machine_reaches(host: str) -> None:
    listener = bind(ServingConfig(host=host, port=0))
    listener.listen()
    url = httpx.URL(url_of(listener))
    assert url.host in ("127.0.0.1", "::1")
    with listener, socket.create_connection((url.host, url.port or 0), timeout=5):
        pass


def test_a_taken_port_cannot_be_bound() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UnavailableError, match=f":{port} cannot be listened on"):
            bind(ServingConfig(port=port))
