"""The whole chain through the real command: text to a promoted, served version, and what repeats it."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace import storage
from pipelines.embedded import slug
from tests.e2e.killing import finish, lasting, mlflow_statuses, runs, start, wait_for
from tests.processes import free_port
from tests.project import ROOT, make_project

PATIENCE_SECONDS = 90
STAGES = [
    "gather",
    "train-tokenizer",
    "sign 1",
    "sign 2",
    "filter-corpus",
    "tokenize 1",
    "tokenize 2",
    "report data",
    "combine instructions",
    "combine text",
    "pretrain",
    "finetune ul2",
    "finetune instruct",
    "rehearse",
    "evaluate base",
    "evaluate candidate",
    "evaluate-incumbent",
    "gate",
    "promote",
    "deploy",
    "close",
]
KILLED = ("filter-corpus", "pretrain", "promote")
"""Where the chain is killed; in every stage where HEADRACE_TEST_EVERY_STAGE is set, at half a minute each."""


def surroundings() -> dict[str, str]:
    """The environment of a user who has set nothing: other tests of this process may have."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "HEADRACE"))}


def headrace(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "headrace.cli", *arguments]
    return subprocess.run(
        command, cwd=project, env={**surroundings(), **environment}, capture_output=True, text=True, timeout=500
    )


@contextlib.contextmanager
def answering(project: Path, path: str, *arguments: str) -> Iterator[str]:
    """A command that listens until it is interrupted, and where it does, once `path` there is answered."""
    port = str(free_port())
    command = [sys.executable, "-m", "headrace.cli", *arguments, "--port", port]
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE_SECONDS
    # A session of its own: what the command starts is to end with it, as Ctrl-C ends both in a terminal.
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=project, env=surroundings(), start_new_session=True, **quiet) as process:
        try:
            while not answers(url + path):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
            yield url
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(PATIENCE_SECONDS)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def run(project: Path, *arguments: str, chain: str = "end_to_end", recipe: str = "tiny") -> dict[str, Any]:
    place = project / "told.json"
    done = headrace(project, "run", chain, "--recipe", recipe, "--json", str(place), *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(place.read_text())
    return told


def states(told: dict[str, Any]) -> dict[str, str]:
    return {stage["name"]: stage["state"] for stage in told["stages"]}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project") / "colours")


@pytest.fixture(scope="module")
def first(project: Path) -> dict[str, Any]:
    return run(project)


class TestChain:
    def test_every_stage_runs_and_the_passing_candidate_is_promoted_and_answers(self, first: dict[str, Any]) -> None:
        assert sorted(states(first)) == sorted(STAGES)
        assert set(states(first).values()) == {"done"}
        assert first["verdict"]["passed"] is True
        base, candidate = (first["metrics"][f"evaluate {who}"]["colours/exact_match"] for who in ("base", "candidate"))
        assert candidate["value"] > 0.5 > base["value"]
        assert candidate["n"] == 40
        endpoint = first["facts"]["deploy/endpoint"]
        assert endpoint["model"] == "models:/colours/1"
        assert endpoint["answers"].keys() == {"Which colour does ada like?"}

    def test_the_champion_is_served_by_its_alias(self, project: Path, first: dict[str, Any]) -> None:
        told = first["facts"]["deploy/endpoint"]
        (prompt, text), *_ = told["answers"].items()
        asked = {"model": "colours", "prompt": prompt, "temperature": 0, "max_tokens": 8}
        with answering(project, "/v2/health/ready", "serve", "colours@champion") as url:
            answer = httpx.post(f"{url}/v1/completions", json=asked, timeout=30).json()
            (card,) = httpx.get(f"{url}/v1/models", timeout=30).json()["data"]
        assert answer["choices"][0]["text"].strip() == text.strip()
        assert card["id"] == "colours"

    def test_the_champion_is_exported_and_answers_in_plain_transformers(
        self, project: Path, first: dict[str, Any]
    ) -> None:
        (prompt, text), *_ = first["facts"]["deploy/endpoint"]["answers"].items()
        done = headrace(project, "convert", "export", "colours@champion", "exported")
        assert done.returncode == 0, done.stderr
        script = (
            "import json, sys\nsys.modules['headrace'] = None\nimport transformers\n"
            "pipe = transformers.pipeline('text-generation', model='exported', trust_remote_code=True)\n"
            f"print(json.dumps(pipe({prompt!r})[0]['generated_text']))"
        )
        made = subprocess.run(
            [sys.executable, "-c", script],
            cwd=project,
            env={**surroundings(), "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(project / "modules")},
            capture_output=True,
            text=True,
        )
        assert made.returncode == 0, made.stderr
        assert json.loads(made.stdout.splitlines()[-1]).removeprefix(prompt).strip() == text.strip()

    def test_its_runs_are_browsed_in_mlflow(self, project: Path, first: dict[str, Any]) -> None:
        with answering(project, "/health", "ui") as url:
            asked = {"run_id": first["mlflow"]["run_id"]}
            found = httpx.get(f"{url}/api/2.0/mlflow/runs/get", params=asked, timeout=30).json()
        assert found["run"]["info"]["run_name"] == first["run_id"]
        assert found["run"]["info"]["status"] == "FINISHED"

    def test_the_console_opens(self, project: Path, first: dict[str, Any]) -> None:
        (project / "dashboards").symlink_to(ROOT / "dashboards")
        with answering(project, "/_stcore/health", "dashboard") as url:
            assert "<title>Streamlit</title>" in httpx.get(url, timeout=30).text

    def test_killed_in_one_stage_after_another_and_run_again_it_comes_to_the_same_result(
        self, project: Path, first: dict[str, Any], tmp_path: Path
    ) -> None:
        home = tmp_path / "killed"
        rng = random.Random(0)
        # Which of two that do not wait for each other comes first, KFP does not promise.
        left = set(KILLED if "HEADRACE_TEST_EVERY_STAGE" not in os.environ else map(slug, STAGES))
        while left:
            before = runs(home)
            process = start(project, home)
            left.remove(wait_for(left, process, home, before))
            time.sleep(rng.uniform(0, 1.2))
            process.kill()
            process.communicate()
        told = finish(project, home)
        assert told["verdict"]["passed"] is True
        assert lasting(told) == lasting(first)
        # What a killed run was about to name lies in its own folder, and there alone; what has a manifest is whole.
        for manifest in (home / "artifacts").glob("*/*/*.partial-*/manifest.json"):
            storage.verify(manifest.parent)
        *killed, finished = sorted((home / "artifacts").iterdir())
        assert killed and list(finished.glob("*/*")) and not list(finished.glob("*/*.partial-*"))
        assert mlflow_statuses(home) <= {"FINISHED", "KILLED", "FAILED"}

    def test_running_again_computes_nothing_and_links_each_cached_run_to_its_origin(
        self, project: Path, first: dict[str, Any]
    ) -> None:
        again = run(project)
        assert [name for name, state in states(again).items() if state != "cached"] == ["close"]
        assert again["facts"] == first["facts"]
        assert again["run_id"] != first["run_id"]

    def test_changing_the_evaluation_reruns_it_and_what_follows(self, project: Path, first: dict[str, Any]) -> None:
        changed = states(run(project, "--set", "evaluation.seed=7"))
        rerun = {name for name, state in changed.items() if state == "done"}
        # Version 1 is registered already and stays champion; its evidence is new, so it is promoted on it again.
        # The corpus is gathered again, for its step looks whether the tasks can be asked; nothing is computed from it.
        assert {"gather", "evaluate base", "evaluate candidate", "evaluate-incumbent", "gate"} <= rerun
        assert rerun <= {"gather", *STAGES[STAGES.index("evaluate base") :]}
        assert all(changed[name] == "cached" for name in STAGES[1 : STAGES.index("evaluate base")])

    def test_a_version_rolled_back_is_not_promoted_again_by_the_cache(
        self, project: Path, first: dict[str, Any]
    ) -> None:
        done = headrace(project, "models", "rollback", "colours", "--reason", "wrong colours")
        assert done.returncode == 0, done.stderr
        told = run(project)
        assert told["verdict"]["passed"] is False
        assert [rule["name"] for rule in told["verdict"]["rules"] if not rule["passed"]] == ["not rolled back"]
        assert states(told)["promote"] == "skipped"
        listed = json.loads(headrace(project, "models", "list", "--json").stdout)
        assert [version["aliases"] for version in listed] == [[]]


def test_compile_writes_an_ir_that_names_every_component(project: Path, tmp_path: Path) -> None:
    import yaml

    done = headrace(project, "compile", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    for name in ("pretraining", "finetuning", "release", "end_to_end"):
        documents = list(yaml.safe_load_all((tmp_path / f"{name}.yaml").read_text()))
        executors = documents[0]["deploymentSpec"]["executors"].values()
        assert all("kfp==" not in " ".join(e["container"]["command"]) for e in executors)
        assert "close" in documents[0]["root"]["dag"]["tasks"]
        platform = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
        assert all(e["fieldPathAsEnv"][0]["name"] == "HEADRACE_PIPELINE_RUN" for e in platform)
