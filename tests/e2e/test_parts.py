"""The parts of the chain as chains of their own: a base model, its finetuning, and a release by reference."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_chain import headrace, run, states
from tests.project import make_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("parts") / "colours")


@pytest.fixture(scope="module")
def base(project: Path) -> dict[str, Any]:
    return run(project, chain="pretraining")


@pytest.fixture(scope="module")
def taught(project: Path, base: dict[str, Any]) -> dict[str, Any]:
    return run(project, "--set", f"base={checkpoint(base, 'pretrain')}", chain="finetuning")


def checkpoint(told: dict[str, Any], stage: str) -> str:
    """Where a stage left its checkpoint."""
    (found,) = (entry for entry in told["stages"] if entry["name"] == stage)
    uri: str = found["artifacts"]["checkpoint"]["uri"]
    return uri


class TestParts:
    def test_pretraining_ends_with_a_measured_base_model(self, base: dict[str, Any]) -> None:
        assert set(states(base).values()) == {"done"}
        assert base["facts"]["pretrain/checkpoint"]["mask"] == "causal"
        assert base["metrics"]["evaluate"]["text/perplexity"]["value"] < 100
        assert base["verdict"] is None

    def test_finetuning_takes_its_base_and_its_tokenizer_by_reference(
        self, base: dict[str, Any], taught: dict[str, Any]
    ) -> None:
        # What pretraining gathered and compared is the same here, and so is answered from the cache.
        kept = {"gather", "sign 1", "sign 2", "filter-corpus"}
        assert {name for name, state in states(taught).items() if state == "cached"} == kept
        assert {states(taught)[name] for name in ("fetch", "finetune ul2", "finetune instruct", "evaluate")} == {"done"}
        assert taught["facts"]["finetune instruct/checkpoint"]["mask"] == "prefix"
        fetched, made = taught["facts"]["fetch/tokenizer"], base["facts"]["train-tokenizer/tokenizer"]
        assert fetched["fingerprint"] == made["fingerprint"]
        assert taught["metrics"]["evaluate"]["colours/exact_match"]["value"] > 0.5

    def test_release_promotes_a_candidate_that_beats_its_base(
        self, project: Path, base: dict[str, Any], taught: dict[str, Any]
    ) -> None:
        candidate = checkpoint(taught, "finetune instruct")
        references = [f"base={checkpoint(base, 'pretrain')}", f"candidate={candidate}"]
        told = run(project, *(word for reference in references for word in ("--set", reference)), chain="release")
        assert told["verdict"]["passed"] is True
        sealed = json.loads((Path(candidate) / "manifest.json").read_text())
        assert told["facts"]["promote/version"]["version"] == 1
        assert told["facts"]["fetch candidate/checkpoint"] == sealed["facts"]
        assert states(told)["deploy"] == "done"

    def test_a_release_that_needs_approval_ends_at_challenger_and_approving_finishes_it(
        self, project: Path, base: dict[str, Any], taught: dict[str, Any]
    ) -> None:
        candidate, parent = checkpoint(taught, "finetune instruct"), checkpoint(base, "pretrain")
        asked = [f"base={parent}", f"candidate={candidate}", "model=asked", 'policy.approvers=["ada"]']
        asked.append("policy.max_latency_ms=600000")
        words = [word for one in asked for word in ("--set", one)]
        waiting = run(project, *words, chain="release")
        assert waiting["verdict"]["passed"] and waiting["verdict"]["approvers"] == ["ada"]
        latency = next(rule for rule in waiting["verdict"]["rules"] if rule["name"] == "latency")
        assert latency["numbers"]["latency_ms"] == waiting["facts"]["rehearse/endpoint"]["latency_ms"] > 0
        assert waiting["facts"]["promote/version"]["alias"] == "challenger"
        assert (states(waiting)["promote"], states(waiting)["deploy"]) == ("done", "skipped")

        done = headrace(project, "models", "approve", "asked", "--reason", "it answers", HEADRACE_USER="ada")
        assert (done.returncode, done.stdout) == (0, "asked version 1 is approved and champion.\n")
