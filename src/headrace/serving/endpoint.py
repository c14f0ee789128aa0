"""Start an endpoint as a process of its own, ask it, and record what it answered."""

import contextlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headrace import storage
from headrace.artifacts import Endpoint, Manifest
from headrace.config import encode
from headrace.errors import ConfigError, MismatchError, UnavailableError
from headrace.serving.config import DeployConfig, ServingConfig
from headrace.tracking import Tracker

if TYPE_CHECKING:
    import httpx

POLL_SECONDS = 0.05
ANSWER_SECONDS = 120.0
ANNOUNCED = re.compile(r" answers at (http://\S+)\n")
VERSION_URI = re.compile(r"models:/(?P<name>[^/@]+)/(?P<version>\d+)")


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint said to one prompt."""

    prompt: str
    text: str
    seconds: float
    """From sending the request to the last byte of the answer."""


@contextlib.contextmanager
def launch(checkpoint_uri: str | Path, name: str, config: ServingConfig, *, version: str = "") -> Iterator[str]:
    """Serve a checkpoint in a process of its own while the block runs, and yield its URL once it answers.

    The process ends with the block, and also when this process is killed.

    Args:
        checkpoint_uri: A sealed Checkpoint, local or `gs://`.
        name: What requests call the model.
        config: Port 0 takes any free one; `ready_seconds` is the deadline.
        version: Number of the registered version; empty where it is none.

    Raises:
        UnavailableError: The process ended or was not ready in time; the message has its last words.
    """
    command = [sys.executable, "-m", "headrace.serving.server", "--end-with-stdin"]
    command += [f"--checkpoint={checkpoint_uri}", f"--name={name}", f"--version={version}"]
    command += [f"--host={config.host}", f"--port={config.port}", f"--config={json.dumps(encode(config))}"]
    with tempfile.TemporaryDirectory(prefix="headrace-endpoint-") as folder:
        out, err = Path(folder, "stdout"), Path(folder, "stderr")
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr)
        try:
            yield _when_ready(process, name, config.ready_seconds, out, err)
        finally:
            _stop(process, config.grace_seconds)


def _when_ready(process: "subprocess.Popen[bytes]", name: str, limit_seconds: float, out: Path, err: Path) -> str:
    """Wait for the line that announces the URL."""
    deadline = time.monotonic() + limit_seconds
    while time.monotonic() < deadline:
        if (status := process.poll()) is not None:
            raise UnavailableError(f"The server of {name} ended with status {status}: {_last_line(err)}")
        if found := ANNOUNCED.search(out.read_text()):
            return found[1]
        time.sleep(POLL_SECONDS)
    raise UnavailableError(
        f"The server of {name} was not ready after ready_seconds={limit_seconds:g}. Raise it; "
        f"its last words were: {_last_line(err)}"
    )


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else "it said nothing."


def _stop(process: "subprocess.Popen[bytes]", grace_seconds: float) -> None:
    """End the process as Kubernetes would: ask first, insist later."""
    process.terminate()
    try:
        process.wait(grace_seconds + 2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()


@contextlib.contextmanager
def _client(url: str) -> "Iterator[httpx.Client]":
    """A client of one endpoint; what goes wrong with it is told in one line."""
    import httpx

    try:
        # An endpoint started here is never behind the proxy that the environment may name.
        with httpx.Client(base_url=url, trust_env=False, timeout=ANSWER_SECONDS) as client:
            yield client
    except httpx.HTTPStatusError as error:
        raise UnavailableError(f"{url} refused ({error.response.text[:300]}). Change the request.") from error
    except (httpx.HTTPError, json.JSONDecodeError) as error:
        raise UnavailableError(f"{url} does not answer ({error!r}). Check that the endpoint runs.") from error


def probe(url: str, prompts: Sequence[str], *, max_tokens: int | None = None) -> list[Answer]:
    """Ask an endpoint one prompt after the other, always taking the likeliest token.

    Args:
        url: Root of the endpoint, as `launch` yields it.
        prompts: What to ask.
        max_tokens: Longest answer in tokens; the endpoint's default where None.

    Raises:
        UnavailableError: It does not answer, or refuses.
    """
    answers = []
    with _client(url) as client:
        model = client.get("/v1/models").raise_for_status().json()["data"][0]["id"]
        body: dict[str, Any] = {"model": model, "temperature": 0, "max_tokens": max_tokens}
        for prompt in prompts:
            started = time.perf_counter()
            answer = client.post("/v1/completions", json=body | {"prompt": prompt})
            seconds = time.perf_counter() - started
            answers.append(Answer(prompt, answer.raise_for_status().json()["choices"][0]["text"], seconds))
    return answers


def served_checkpoint(url: str, name: str) -> str:
    """Digest of the checkpoint that an endpoint says it serves as `name`.

    Raises:
        UnavailableError: It does not answer, or serves no such model.
    """
    with _client(url) as client:
        described = client.get(f"/v2/models/{quote(name)}").raise_for_status().json()
    return str(described["parameters"]["checkpoint"])


def deploy(
    checkpoint_uri: str | Path, output_uri: str | Path, model_uri: str, config: DeployConfig, tracker: Tracker
) -> Manifest:
    """Start an endpoint of a version, probe it, record what it answered and how fast, and stop it.

    Args:
        checkpoint_uri: The version's sealed Checkpoint.
        output_uri: Where the Endpoint artifact goes.
        model_uri: `models:/NAME/N`.
        config: How to serve and what to ask.
        tracker: Receives `ready_seconds` and `latency_ms`.

    Raises:
        ConfigError: `model_uri` names no version.
        UnavailableError: The endpoint did not come up or did not answer.
        MismatchError: It serves another checkpoint.
    """
    named = VERSION_URI.fullmatch(model_uri)
    if named is None:
        raise ConfigError(f"{model_uri!r} names no version. Write models:/NAME/N.")
    return _record(checkpoint_uri, output_uri, named["name"], named["version"], config, tracker)


def rehearse(
    checkpoint_uri: str | Path, output_uri: str | Path, name: str, config: DeployConfig, tracker: Tracker
) -> Manifest:
    """The same of a candidate that is no version yet, for a gate to see how fast it answers.

    Args, returns and raises as `deploy`, with the name it would be registered under.
    """
    return _record(checkpoint_uri, output_uri, name, "", config, tracker)


def _record(
    checkpoint_uri: str | Path, output_uri: str | Path, name: str, version: str, config: DeployConfig, tracker: Tracker
) -> Manifest:
    model = f"models:/{name}/{version}" if version else name
    tracker.progress(f"starting {model}", 0.0)
    facts = _measure(checkpoint_uri, name, version, config)
    tracker.metrics({"ready_seconds": facts.ready_seconds, "latency_ms": facts.latency_ms})
    tracker.progress(f"{model} answered {len(facts.answers)} prompts", 1.0)
    with storage.writing(output_uri) as tree:
        return tree.commit(facts, parents={"checkpoint": facts.checkpoint})


def _measure(checkpoint_uri: str | Path, name: str, version: str, config: DeployConfig) -> Endpoint:
    """Launch, ask who it is, and probe."""
    wanted = storage.read_manifest(checkpoint_uri).digest
    started = time.monotonic()
    with launch(checkpoint_uri, name, config.server, version=version) as url:
        ready_seconds = time.monotonic() - started
        served = served_checkpoint(url, name)
        if served != wanted:
            raise MismatchError(f"{url} serves checkpoint {served[:12]}, not {wanted[:12]}. Run the step again.")
        answers = probe(url, config.probes)
    return Endpoint(
        model=f"models:/{name}/{version}" if version else name,
        checkpoint=served,
        url=url,
        answers={answer.prompt: answer.text for answer in answers},
        ready_seconds=ready_seconds,
        latency_ms=1000 * statistics.median(answer.seconds for answer in answers),
    )
