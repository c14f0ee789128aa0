"""The engine against `generation.generate` on the same weights."""

import queue
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from headrace.artifacts import MaskContract
from headrace.errors import ConfigError, UnavailableError
from headrace.models.generation import generate
from headrace.serving.config import ServingConfig
from headrace.serving.engine import Engine
from headrace.serving.job import Piece, PromptTooLongError, Request, Sampling
from tests.serving_checkpoint import CONTEXT_TOKENS, TEXT, tiny_model, tiny_tokenizer

MODEL, TOKENIZER = tiny_model(), tiny_tokenizer()


def engine_of(mask: MaskContract = "prefix", **config: int) -> Engine:
    return Engine(MODEL, TOKENIZER, mask, "tiny", config=ServingConfig(**config))


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = engine_of()
    yield made
    made.close()


def random_requests(count: int, seed: int = 0) -> list[Request]:
    """Prompts of several lengths, greedy and sampled."""
    draw = random.Random(seed)
    return [
        Request(
            [draw.randrange(1, 320) for _ in range(draw.randint(1, 40))],
            Sampling(
                max_tokens=draw.randint(1, 30),
                temperature=draw.choice([0.0, 0.7, 1.3]),
                top_p=draw.choice([1.0, 0.8]),
                top_k=draw.choice([0, 20]),
                seed=draw.randrange(1000),
            ),
        )
        for _ in range(count)
    ]


def expected(request: Request, mask: MaskContract = "prefix") -> tuple[str, int]:
    """Text and length that `generate` gives for one prompt alone."""
    how = request.sampling
    ids = generate(
        MODEL,
        [request.prompt],
        mask=mask,
        max_new_tokens=how.max_tokens,
        temperature=how.temperature,
        top_k=how.top_k,
        top_p=how.top_p,
        seed=how.seed,
        stop_ids=(TOKENIZER.eos_id,),
    )[0]
    return TOKENIZER.decode(ids), len(ids)


def test_a_completion_is_what_generate_gives_under_the_mask_of_the_checkpoint() -> None:
    requests = random_requests(30)
    told = {}
    for mask in ("causal", "prefix"):
        engine = engine_of(mask)
        told[mask] = [engine.complete(request) for request in requests]
        engine.close()
        assert [(piece.text, piece.tokens) for piece in told[mask]] == [expected(r, mask) for r in requests]
    assert told["causal"] != told["prefix"]


def test_a_completion_says_length_only_where_its_tokens_were_used_up(engine: Engine) -> None:
    requests = random_requests(40, seed=1)
    pieces = [engine.complete(request) for request in requests]
    ended = ["length" if p.tokens == r.sampling.max_tokens else "stop" for p, r in zip(pieces, requests, strict=True)]
    assert [piece.finish for piece in pieces] == ended
    assert set(ended) == {"length", "stop"}


def test_twenty_at_once_are_answered_as_each_alone(engine: Engine) -> None:
    requests = random_requests(20, seed=2)
    with ThreadPoolExecutor(20) as pool:
        together = list(pool.map(engine.complete, requests))
    assert [(piece.text, piece.tokens) for piece in together] == [expected(request) for request in requests]


def test_a_short_completion_does_not_wait_for_a_long_one(engine: Engine) -> None:
    ended: queue.SimpleQueue[int] = queue.SimpleQueue()
    prompt = TOKENIZER.encode(TEXT)[:10]
    tries = (Request(prompt, Sampling(max_tokens=80, temperature=1.0, seed=seed)) for seed in range(1000))
    seed = next(request.sampling.seed for request in tries if expected(request)[1] == 80)

    def emit(index: int, piece: Piece | Exception) -> None:
        if isinstance(piece, Exception) or piece.finish:
            ended.put(index)

    lengths = (80, 40, 2)
    engine.submit([Request(prompt, Sampling(max_tokens=n, temperature=1.0, seed=seed)) for n in lengths], emit)
    assert [ended.get(timeout=30) for _ in lengths] == [2, 1, 0]


@pytest.mark.parametrize(
    ("request_", "error", "said"),
    [
        (Request([], Sampling(max_tokens=1)), ConfigError, "prompt is empty"),
        (Request([1, 352], Sampling(max_tokens=1)), ConfigError, "token 352 .* 0 to 351"),
        (Request([-1], Sampling(max_tokens=1)), ConfigError, "token -1"),
        (Request([1] * 90, Sampling(max_tokens=7)), PromptTooLongError, "90 tokens and max_tokens=7 .* 96 tokens"),
    ],
)
def test_what_cannot_be_answered_whole_is_refused_and_nothing_is_begun(
    engine: Engine, request_: Request, error: type[Exception], said: str
) -> None:
    made: list[object] = []
    good = Request([1], Sampling(max_tokens=1))
    with pytest.raises(error, match=said):
        engine.submit([good, request_], lambda index, piece: made.append(piece))
    assert engine.complete(good).tokens <= 1
    assert made == []


def test_a_prompt_that_just_fits_the_context_is_answered(engine: Engine) -> None:
    request = Request([1] * (CONTEXT_TOKENS - 6), Sampling(max_tokens=6))
    assert (engine.complete(request).text, engine.complete(request).tokens) == expected(request)


def test_more_than_max_waiting_is_refused_whole() -> None:
    engine = engine_of(max_batch=1, max_waiting=2)
    holding, release = threading.Event(), threading.Event()

    def hold(index: int, piece: Piece | Exception) -> None:
        holding.set()
        release.wait(30)

    request = Request([1], Sampling(max_tokens=1))
    engine.submit([request], hold)
    assert holding.wait(30)
    engine.submit([request, request], lambda index, piece: None)
    with pytest.raises(UnavailableError, match="2 completions wait, and 1 more would exceed max_waiting=2"):
        engine.submit([request], lambda index, piece: None)
    release.set()
    engine.close()


def test_closing_tells_those_who_wait_that_nothing_will_come() -> None:
    engine = engine_of(max_batch=1)
    told: list[Piece | Exception] = []
    holding, release = threading.Event(), threading.Event()

    def hold(index: int, piece: Piece | Exception) -> None:
        holding.set()
        release.wait(30)

    request = Request([1], Sampling(max_tokens=50, temperature=1.0))
    engine.submit([request], hold)
    engine.submit([request, request], lambda index, piece: told.append(piece))
    assert holding.wait(30)
    threading.Timer(0.1, release.set).start()
    engine.close()
    assert not engine.alive
    assert len(told) == 2
    assert all(isinstance(piece, UnavailableError) for piece in told)


def test_the_worker_outlives_a_completion_that_fails() -> None:
    class Broken:
        eos_id = TOKENIZER.eos_id
        encode = staticmethod(TOKENIZER.encode)

        def decode(self, ids: list[int]) -> str:
            if len(ids) == 2:
                raise RuntimeError("cannot say this")
            return "x" * len(ids)

    engine = Engine(MODEL, Broken(), "prefix", "tiny")
    request = next(request for request in random_requests(9) if expected(request)[1] > 2)
    with pytest.raises(RuntimeError, match="cannot say this"):
        engine.complete(request)
    assert engine.complete(Request(request.prompt, Sampling(max_tokens=1))).text == "x"
    engine.close()
