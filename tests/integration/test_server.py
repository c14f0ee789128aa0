"""A real serving process, asked over HTTP by httpx and by OpenAI's own client."""

import contextlib
import json
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from headrace.artifacts import MaskContract
from headrace.models.generation import generate
from tests.serving_checkpoint import CONTEXT_TOKENS, TEXT, tiny_model, tiny_tokenizer, write_checkpoint

MODEL, TOKENIZER = tiny_model(), tiny_tokenizer()
PROMPTS = ["Return the currency", "Swiss Franc", "The river", "water Input", "中文 é 😀"]


@dataclass(frozen=True)
class Server:
    """A process that answers at `url`."""

    url: str
    digest: str
    process: "subprocess.Popen[str]"


@contextlib.contextmanager
def running(checkpoint: Path, mask: MaskContract = "prefix", **config: object) -> Iterator[Server]:
    digest = write_checkpoint(checkpoint, mask).digest
    command = [sys.executable, "-m", "headrace.serving.server", "--checkpoint", str(checkpoint), "--name", "tiny"]
    command += ["--version", "7", "--port", "0", "--config", json.dumps(config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said.startswith("tiny version 7 answers at http://127.0.0.1:")
        yield Server(said.split()[-1], digest, process)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("serving") / "checkpoint", max_body_bytes=100_000) as started:
        yield started


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def expected_ids(prompt: str, mask: MaskContract = "prefix", **how: Any) -> list[int]:
    ids = TOKENIZER.encode(prompt)
    return generate(MODEL, [ids], mask=mask, stop_ids=(TOKENIZER.eos_id,), **({"max_new_tokens": 20} | how))[0]


def expected(prompt: str, mask: MaskContract = "prefix", **how: Any) -> str:
    return TOKENIZER.decode(expected_ids(prompt, mask, **how))


def post(server: Server, path: str, body: Any) -> httpx.Response:
    # The standard library can write what httpx refuses to send: NaN, and half a surrogate pair.
    return httpx.post(f"{server.url}{path}", content=json.dumps(body), timeout=30)


def infer(server: Server, prompts: list[str], **parameters: object) -> httpx.Response:
    tensor = {"name": "text_input", "shape": [len(prompts)], "datatype": "BYTES", "data": prompts}
    return post(server, "/v2/models/tiny/infer", {"id": "42", "inputs": [tensor], "parameters": parameters})


def test_openai_client_gets_what_generate_gives_and_from_which_weights(server: Server, client: openai.OpenAI) -> None:
    for prompt in PROMPTS:
        answer = client.completions.create(model="tiny", prompt=prompt, max_tokens=20, temperature=0)
        made = expected_ids(prompt)
        assert answer.choices[0].text == TOKENIZER.decode(made)
        assert answer.choices[0].finish_reason == ("length" if len(made) == 20 else "stop")
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (
            len(TOKENIZER.encode(prompt)),
            len(made),
        )
        assert (answer.model, answer.system_fingerprint) == ("tiny", f"7-{server.digest}")


def test_v2_infer_gives_what_generate_gives_and_from_which_weights(server: Server) -> None:
    answer = infer(server, PROMPTS, max_tokens=20, temperature=0).json()
    texts = [expected(prompt) for prompt in PROMPTS]
    assert answer["outputs"] == [{"name": "text_output", "datatype": "BYTES", "shape": [len(texts)], "data": texts}]
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("42", "tiny", "7")
    assert answer["parameters"] == {"checkpoint": server.digest}


def test_a_list_of_prompts_and_token_ids_are_answered_in_order(client: openai.OpenAI) -> None:
    how = {"model": "tiny", "max_tokens": 20, "temperature": 0}
    ids = [TOKENIZER.encode(prompt) for prompt in PROMPTS]
    texts = [expected(prompt) for prompt in PROMPTS]
    for prompts in (PROMPTS, ids):
        answer = client.completions.create(prompt=prompts, **how)
        assert [choice.text for choice in answer.choices] == texts
        assert [choice.index for choice in answer.choices] == list(range(len(PROMPTS)))
    assert client.completions.create(prompt=ids[1], **how).choices[0].text == texts[1]


def test_a_causal_checkpoint_is_served_causally_and_a_prefix_one_is_not(server: Server, tmp_path: Path) -> None:
    with running(tmp_path / "checkpoint", mask="causal") as causal:
        told = infer(causal, PROMPTS, max_tokens=20, temperature=0).json()["outputs"][0]["data"]
    assert told == [expected(prompt, mask="causal") for prompt in PROMPTS]
    assert told != [expected(prompt, mask="prefix") for prompt in PROMPTS]


def test_sampling_repeats_with_a_seed_and_n_choices_take_the_seeds_that_follow(client: openai.OpenAI) -> None:
    how: dict[str, Any] = {"model": "tiny", "prompt": PROMPTS[0], "max_tokens": 20, "temperature": 1.2, "top_p": 0.9}
    answer = client.completions.create(seed=5, n=3, **how)
    seeds = [expected(PROMPTS[0], temperature=1.2, top_p=0.9, seed=seed) for seed in (5, 6, 7)]
    assert [choice.text for choice in answer.choices] == seeds
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(TOKENIZER.encode(PROMPTS[0]))  # read once, however often continued
    assert len({client.completions.create(**how).choices[0].text for _ in range(3)}) > 1


def test_defaults_are_those_of_openai(client: openai.OpenAI) -> None:
    lengths = set()
    for seed in range(8):
        usage = client.completions.create(model="tiny", prompt=TEXT[:20], seed=seed).usage
        assert usage is not None
        lengths.add(usage.completion_tokens)
        assert usage.completion_tokens == len(expected_ids(TEXT[:20], max_new_tokens=16, temperature=1.0, seed=seed))
    assert max(lengths) == 16


def test_a_stream_joins_to_the_whole_answer_in_valid_text(client: openai.OpenAI) -> None:
    for seed in range(10):
        how: dict[str, Any] = {"model": "tiny", "prompt": PROMPTS, "max_tokens": 30, "temperature": 1.0, "seed": seed}
        whole = client.completions.create(**how)
        joined, ends, usage = [""] * len(PROMPTS), [""] * len(PROMPTS), None
        for chunk in client.completions.create(stream=True, stream_options={"include_usage": True}, **how):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                joined[choice.index] += choice.text
                ends[choice.index] = choice.finish_reason
        assert joined == [choice.text for choice in whole.choices]
        assert ends == [choice.finish_reason for choice in whole.choices]
        assert usage == whole.usage


def test_a_stream_sends_text_while_the_completion_is_still_being_made(server: Server) -> None:
    body = {"model": "tiny", "prompt": TEXT[:30], "max_tokens": 60, "temperature": 1.0, "stream": True}
    events = []
    for seed in range(5):
        with httpx.stream("POST", f"{server.url}/v1/completions", json=body | {"seed": seed}) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = [line for line in answer.iter_lines() if line]
        assert lines[-1] == "data: [DONE]"
        events.append(len(lines))
    assert max(events) > 20


def test_nothing_of_a_stop_string_nor_after_it_leaves_the_server(client: openai.OpenAI) -> None:
    draw = random.Random(0)
    how: dict[str, Any] = {"model": "tiny", "max_tokens": 30, "temperature": 0}
    checked = 0
    for prompt in PROMPTS:
        text = expected(prompt, max_new_tokens=30)
        for _ in range(6):
            start = draw.randrange(len(text) - 4)
            stop = text[start : start + 4]  # spans tokens more often than not: most tokens are a byte
            if "\ufffd" in stop:
                continue
            answer = client.completions.create(prompt=prompt, stop=["never said", stop], **how).choices[0]
            stream = client.completions.create(prompt=prompt, stop=[stop], stream=True, **how)
            assert answer.text == text[: text.index(stop)]
            assert answer.finish_reason == "stop"
            assert "".join(chunk.choices[0].text for chunk in stream) == answer.text
            checked += 1
    assert checked > 5


def test_parameters_that_ask_for_nothing_are_accepted(server: Server) -> None:
    nothing: dict[str, Any] = {
        "best_of": 1,
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "logit_bias": {},
        "suffix": "",
    }
    nothing |= dict.fromkeys(["logprobs", "stop", "seed", "n", "top_p", "stream", "stream_options"]) | {"user": "me"}
    body = {"model": "tiny", "prompt": PROMPTS[0], "max_tokens": 20, "temperature": 0}
    assert post(server, "/v1/completions", body | nothing).json()["choices"][0]["text"] == expected(PROMPTS[0])


def test_echo_puts_the_prompt_first_streamed_or_not(client: openai.OpenAI) -> None:
    how: dict[str, Any] = {"model": "tiny", "prompt": PROMPTS[0], "max_tokens": 5, "temperature": 0, "echo": True}
    text = PROMPTS[0] + expected(PROMPTS[0], max_new_tokens=5)
    assert client.completions.create(**how).choices[0].text == text
    assert "".join(chunk.choices[0].text for chunk in client.completions.create(stream=True, **how)) == text


def test_twenty_at_once_are_answered_as_each_alone(client: openai.OpenAI) -> None:
    draw = random.Random(1)
    asked = [(draw.choice(PROMPTS), draw.randint(1, 40), draw.choice([0.0, 1.0]), seed) for seed in range(20)]

    def ask(one: tuple[str, int, float, int]) -> str:
        prompt, most, temperature, seed = one
        made = client.completions.create(
            model="tiny", prompt=prompt, max_tokens=most, temperature=temperature, seed=seed
        )
        return made.choices[0].text

    with ThreadPoolExecutor(20) as pool:
        together = list(pool.map(ask, asked))
    alone = [expected(p, max_new_tokens=most, temperature=heat, seed=seed) for p, most, heat, seed in asked]
    assert together == alone


BAD_COMPLETIONS: list[tuple[dict[str, Any], int, str]] = [
    ({"model": "other"}, 404, "no model 'other' here. Ask for 'tiny'"),
    ({"model": None}, 400, "needs 'model'"),
    ({"prompt": ""}, 400, "prompt is empty"),
    ({"prompt": []}, 400, "0 prompts"),
    ({"prompt": ["fine", ""]}, 400, "prompt is empty"),
    ({"prompt": None}, 400, "needs 'prompt'"),
    ({"prompt": 5}, 400, "prompt=5 is int"),
    ({"prompt": [1, "a"]}, 400, "prompt="),
    ({"prompt": [True]}, 400, "prompt="),
    ({"prompt": [352]}, 400, "token 352"),
    ({"prompt": "\ud800"}, 400, "no Unicode text at character 0"),
    ({"prompt": "x" * 99}, 400, f"99 tokens and max_tokens=1 .* {CONTEXT_TOKENS} tokens"),
    ({"max_tokens": -1}, 400, "max_tokens=-1"),
    ({"max_tokens": 0}, 400, "max_tokens=0"),
    ({"max_tokens": "5"}, 400, "max_tokens='5' is str, not int"),
    ({"max_tokens": 1.5}, 400, "max_tokens=1.5 is float"),
    ({"max_tokens": 10**400}, 400, "max_tokens=1000"),
    ({"temperature": 3}, 400, "temperature=3"),
    ({"temperature": float("nan")}, 400, "temperature=nan"),
    ({"temperature": "hot"}, 400, "temperature='hot'"),
    ({"top_p": 0}, 400, "top_p=0"),
    ({"n": 0}, 400, "n=0"),
    ({"n": 129}, 400, "129 completions"),
    ({"seed": -5}, 400, "seed=-5"),
    ({"stop": ["a", "b", "c", "d", "e"]}, 400, "up to 4"),
    ({"stop": 3}, 400, "stop=3"),
    ({"stream": "yes"}, 400, "stream='yes'"),
    ({"logprobs": 1}, 400, "logprobs=1 is not supported"),
    ({"suffix": "end"}, 400, "suffix='end' is not supported"),
    ({"best_of": 2}, 400, "best_of=2 is not supported"),
    ({"presence_penalty": 0.5}, 400, "presence_penalty=0.5 is not supported"),
    ({"max_token": 3}, 400, "no key 'max_token'. Did you mean 'max_tokens'"),
]


@pytest.mark.parametrize(("change", "status", "said"), BAD_COMPLETIONS, ids=lambda value: str(value)[:40])
def test_a_bad_completion_request_is_refused_in_one_line_and_the_server_lives(
    server: Server, change: dict[str, Any], status: int, said: str
) -> None:
    good = {"model": "tiny", "prompt": "The river", "max_tokens": 1, "temperature": 0}
    answer = post(server, "/v1/completions", good | change)
    message = answer.json()["error"]["message"]
    assert answer.status_code == status
    assert re.search(said, message), message
    assert "\n" not in message
    assert len(message) < 600
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert post(server, "/v1/completions", good).status_code == 200


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[1]", "JSON list"),
        (b"\xff\xfe\x00", "no JSON"),
        (b"[" * 50_000, "no JSON"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "no JSON"),
        (b" " * 100_001, "max_body_bytes=100,000"),
    ],
    ids=["empty", "cut", "list", "bytes", "deep", "digits", "large"],
)
def test_a_body_that_is_no_json_object_is_refused(server: Server, body: bytes, said: str) -> None:
    for path, message in (("/v1/completions", ["error", "message"]), ("/v2/models/tiny/infer", ["error"])):
        answer = httpx.post(f"{server.url}{path}", content=body)
        found = answer.json()
        for key in message:
            found = found[key]
        assert (answer.status_code, said in found, "\n" in found) == (400, True, False), found


def test_openai_client_raises_its_own_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.completions.create(model="gpt-4", prompt="x")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model="tiny", prompt="x" * 200)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="max_tokens=-1"):
        list(client.completions.create(model="tiny", prompt="x", max_tokens=-1, stream=True))


GOOD_TENSOR = {"name": "text_input", "shape": [1], "datatype": "BYTES", "data": ["The river"]}


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("other/infer", {"inputs": [GOOD_TENSOR]}, 404, "no model 'other'"),
        ("tiny/versions/8/infer", {"inputs": [GOOD_TENSOR]}, 404, "Version 8 of tiny"),
        ("tiny/infer", {}, 400, "needs 'inputs'"),
        ("tiny/infer", {"inputs": []}, 400, "one tensor"),
        ("tiny/infer", {"inputs": [GOOD_TENSOR | {"name": "image"}]}, 400, "image"),
        ("tiny/infer", {"inputs": [GOOD_TENSOR | {"datatype": "FP32"}]}, 400, "FP32"),
        ("tiny/infer", {"inputs": [GOOD_TENSOR | {"data": [5]}]}, 400, "must be BYTES"),
        ("tiny/infer", {"inputs": [GOOD_TENSOR | {"shape": [2]}]}, 400, r"shape \[2\] and 1 elements"),
        ("tiny/infer", {"inputs": [GOOD_TENSOR | {"data": [], "shape": [0]}]}, 400, "0 prompts"),
        ("tiny/infer", {"inputs": [GOOD_TENSOR], "parameters": {"max_tokens": 0}}, 400, "max_tokens=0"),
        ("tiny/infer", {"inputs": [GOOD_TENSOR], "parameters": {"heat": 1}}, 400, "no key 'heat'"),
        ("tiny/infer", {"inputs": [GOOD_TENSOR], "outputs": [{"name": "logits"}]}, 400, "no output 'logits'"),
    ],
)
def test_a_bad_infer_request_is_refused_in_one_line(
    server: Server, path: str, body: dict[str, Any], status: int, said: str
) -> None:
    answer = post(server, f"/v2/models/{path}", body)
    assert answer.status_code == status
    assert re.search(said, answer.json()["error"])
    assert "\n" not in answer.json()["error"]


def test_v2_describes_server_and_model(server: Server) -> None:
    def get(path: str) -> Any:
        answer = httpx.get(f"{server.url}{path}")
        assert answer.status_code == 200
        return answer.json()

    assert get("/v2")["name"] == "headrace"
    assert get("/v2/health/live") == {"live": True}
    assert get("/v2/health/ready") == {"ready": True}
    for path in ("/v2/models/tiny", "/v2/models/tiny/versions/7"):
        described = get(path)
        assert (described["name"], described["versions"]) == ("tiny", ["7"])
        assert described["inputs"] == [{"name": "text_input", "datatype": "BYTES", "shape": [-1]}]
        assert described["outputs"] == [{"name": "text_output", "datatype": "BYTES", "shape": [-1]}]
        assert described["parameters"]["checkpoint"] == server.digest
        assert get(f"{path}/ready") == {"name": "tiny", "ready": True}
    assert get("/health") == {"ready": True, "model": "tiny", "version": "7", "checkpoint": server.digest}


def test_openai_client_lists_the_model(server: Server, client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").model_dump()["checkpoint"] == server.digest
    with pytest.raises(openai.NotFoundError, match="no model 'other' here"):
        client.models.retrieve("other")


def test_unknown_paths_and_methods_are_answered_in_the_shape_of_the_protocol(server: Server) -> None:
    assert "GET /v1/nowhere" in httpx.get(f"{server.url}/v1/nowhere").json()["error"]["message"]
    assert "GET /v2/nowhere" in httpx.get(f"{server.url}/v2/nowhere").json()["error"]
    assert httpx.get(f"{server.url}/v1/completions").status_code == 405


def scraped(server: Server) -> dict[str, float]:
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_metrics_count_requests_and_tokens(server: Server) -> None:
    before = scraped(server)
    infer(server, PROMPTS, max_tokens=20, temperature=0)
    post(server, "/v1/completions", {"model": "other", "prompt": "x"})
    httpx.get(f"{server.url}/anything/{time.time()}")
    after = scraped(server)

    def grew(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    route = 'route="/v2/models/{name}/infer"'
    assert grew(f'headrace_requests_total{{{route},status="200"}}') == 1
    assert grew(f"headrace_request_seconds_count{{{route}}}") == 1
    assert grew('headrace_requests_total{route="/v1/completions",status="404"}') == 1
    assert grew('headrace_requests_total{route="none",status="404"}') == 1
    assert grew("headrace_prompt_tokens_total") == sum(len(TOKENIZER.encode(prompt)) for prompt in PROMPTS)
    assert grew("headrace_completion_tokens_total") == sum(len(expected_ids(prompt)) for prompt in PROMPTS)
    assert after["headrace_requests_in_flight"] == 1  # the scrape itself
    assert after["headrace_completions_waiting"] == 0
    assert after[f'headrace_model_info{{checkpoint="{server.digest}",name="tiny",version="7"}}'] == 1


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_the_worker(tmp_path: Path, stream: bool) -> None:
    body = {"model": "tiny", "prompt": "x", "max_tokens": 90, "temperature": 1.0, "n": 128, "seed": 1, "stream": stream}
    with running(tmp_path / "checkpoint", max_batch=1) as server:
        url = f"{server.url}/v1/completions"
        started = time.monotonic()
        post(server, "/v1/completions", body)
        whole_seconds = time.monotonic() - started
        with contextlib.suppress(httpx.ReadTimeout), httpx.stream("POST", url, json=body, timeout=0.2) as answer:
            next(answer.iter_lines())
        started = time.monotonic()
        while scraped(server)["headrace_completions_waiting"]:
            time.sleep(0.02)
        assert time.monotonic() - started < whole_seconds / 3


def test_a_taken_port_is_told_in_one_line_before_anything_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "headrace.serving.server", "--checkpoint", str(tmp_path / "none")]
        ended = subprocess.run([*command, "--name", "x", "--port", str(port)], capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert f"127.0.0.1:{port} cannot be listened on (Address already in use). Stop what holds it" in ended.stderr


@pytest.mark.parametrize(
    ("option", "status", "said"),
    [
        (["--config", "{"], 2, "is no JSON"),
        (["--config", '{"prot": 1}'], 2, "Did you mean 'port'"),
        (["--port", "70000"], 2, "port=70000"),
        (["--host", "nowhere.invalid"], 1, "nowhere.invalid"),
        ([], 1, "no artifact is there"),
    ],
)
def test_a_server_that_cannot_start_says_why_in_one_line(
    tmp_path: Path, option: list[str], status: int, said: str
) -> None:
    command = [sys.executable, "-m", "headrace.serving.server", "--name", "x", "--checkpoint", str(tmp_path / "none")]
    ended = subprocess.run([*command, "--port", "0", *option], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr.count("\n"), said in ended.stderr) == (status, 1, True), ended.stderr


def test_sigterm_lets_a_request_end_and_then_the_process_ends_within_seconds(tmp_path: Path) -> None:
    body = {"model": "tiny", "prompt": "x", "max_tokens": 90, "temperature": 1.0, "n": 20, "seed": 1}
    with running(tmp_path / "checkpoint") as server, ThreadPoolExecutor(1) as pool:
        whole = post(server, "/v1/completions", body).json()["choices"]
        answer = pool.submit(post, server, "/v1/completions", body)
        while scraped(server)["headrace_requests_in_flight"] < 2:
            time.sleep(0.01)
        asked = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(10)
        assert time.monotonic() - asked < 8
        assert answer.result().json()["choices"] == whole
        assert server.process.communicate() == ("", "")
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/health")


def test_sigterm_ends_even_while_a_client_keeps_a_stream_open(tmp_path: Path) -> None:
    body = {"model": "tiny", "prompt": "x", "max_tokens": 90, "temperature": 1.0, "n": 128, "stream": True}
    with (
        running(tmp_path / "checkpoint", grace_seconds=1, max_batch=1) as server,
        httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=30) as answer,
    ):
        lines = answer.iter_lines()
        next(lines)
        asked = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(10)
        assert time.monotonic() - asked < 5
