"""Endpoints started as processes of their own, probed, recorded and stopped."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from headrace import storage
from headrace.artifacts import MODEL_FILE, Endpoint
from headrace.config import decode
from headrace.errors import ConfigError, UnavailableError
from headrace.models.generation import generate
from headrace.serving.config import DeployConfig, ServingConfig
from headrace.serving.endpoint import deploy, launch, probe
from headrace.tracking import Tracker
from tests.serving_checkpoint import tiny_model, tiny_tokenizer, write_checkpoint

PROMPTS = ("Return the currency", "Swiss Franc", "The river")
ANY_PORT = ServingConfig(port=0)


class Kept(Tracker):
    """Keeps what a step measured."""

    def __init__(self) -> None:
        self.measured: dict[str, float] = {}

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        self.measured.update(values)


def greedy(prompt: str, tokens: int) -> str:
    tokenizer = tiny_tokenizer()
    ids = tokenizer.encode(prompt)
    made = generate(tiny_model(), [ids], mask="prefix", max_new_tokens=tokens, stop_ids=(tokenizer.eos_id,))
    return tokenizer.decode(made[0])


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v2/health/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def test_deploy_records_what_the_weights_say_and_leaves_nothing_running(tmp_path: Path) -> None:
    digest = write_checkpoint(tmp_path / "checkpoint", "prefix").digest
    config = decode(DeployConfig, {"probes": list(PROMPTS), "server": {"port": 0, "max_new_tokens": 9}})
    kept = Kept()
    started = time.monotonic()
    manifest = deploy(tmp_path / "checkpoint", tmp_path / "endpoint", "models:/tiny/3", config, kept)
    whole_seconds = time.monotonic() - started
    facts = storage.read(tmp_path / "endpoint", Endpoint).facts
    assert facts == manifest.facts
    assert facts.answers == {prompt: greedy(prompt, 9) for prompt in PROMPTS}
    assert (facts.model, facts.checkpoint, manifest.parents) == ("models:/tiny/3", digest, {"checkpoint": digest})
    assert 0 < facts.latency_ms / 1000 < whole_seconds - facts.ready_seconds < whole_seconds
    assert kept.measured == {"ready_seconds": facts.ready_seconds, "latency_ms": facts.latency_ms}
    assert not answers(facts.url)


def test_a_launched_endpoint_answers_probes_until_its_block_ends(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint", "prefix")
    with launch(tmp_path / "checkpoint", "-odd name", ANY_PORT) as url:
        assert httpx.get(f"{url}/health").json()["model"] == "-odd name"
        told = probe(url, PROMPTS, max_tokens=4)
        assert [(answer.prompt, answer.text) for answer in told] == [(p, greedy(p, 4)) for p in PROMPTS]
        assert all(answer.seconds > 0 for answer in told)
        with pytest.raises(UnavailableError, match=r"refused .*prompt is empty"):
            probe(url, [""])
    assert not answers(url)
    with pytest.raises(UnavailableError, match="does not answer"):
        probe(url, PROMPTS)


def test_a_server_that_ends_before_it_is_ready_is_reported_with_its_last_words(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint", "prefix")
    weights = tmp_path / "checkpoint" / MODEL_FILE
    flipped = bytearray(weights.read_bytes())
    flipped[-9] ^= 1
    weights.write_bytes(flipped)
    started = time.monotonic()
    with (
        pytest.raises(UnavailableError, match=f"ended with status 1: .*{MODEL_FILE} is altered"),
        launch(tmp_path / "checkpoint", "tiny", ServingConfig(port=0, ready_seconds=600)),
    ):
        pass
    assert time.monotonic() - started < 60


def test_a_taken_port_is_reported(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint", "prefix")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = ServingConfig(port=taken.getsockname()[1])
        with pytest.raises(UnavailableError, match="cannot be listened on"), launch(tmp_path, "tiny", config):
            pass


def test_a_server_that_is_not_ready_in_time_is_stopped(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint", "prefix")
    config = ServingConfig(port=0, ready_seconds=0.2)
    with (
        pytest.raises(UnavailableError, match=r"not ready after ready_seconds=0\.2"),
        launch(tmp_path / "checkpoint", "tiny", config),
    ):
        pass


def test_a_server_does_not_outlive_whoever_launched_it(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint", "prefix")
    script = """
import sys, time
from headrace.serving.config import ServingConfig
from headrace.serving.endpoint import launch
with launch(sys.argv[1], "tiny", ServingConfig(port=0)) as url:
    print(url, flush=True)
    time.sleep(600)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "checkpoint")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        assert answers(url)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while answers(url) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not answers(url)


@pytest.mark.parametrize("uri", ["tiny", "models:/tiny@champion", "models:/tiny/x", "models:/tiny/3/4"])
def test_deploying_what_names_no_version_is_refused(tmp_path: Path, uri: str) -> None:
    with pytest.raises(ConfigError, match="names no version"):
        deploy(tmp_path, tmp_path / "endpoint", uri, DeployConfig(probes=("x",)), Tracker())


def test_an_endpoint_without_probes_is_refused() -> None:
    with pytest.raises(ConfigError, match="probes is empty"):
        decode(DeployConfig, {"probes": []})
