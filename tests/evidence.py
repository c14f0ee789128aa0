"""A candidate with all the evidence that a gate can ask for, which tests take apart."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headrace import storage
from headrace.artifacts import (
    MANIFEST,
    Checkpoint,
    DataSummary,
    Endpoint,
    EvalReport,
    LookedFor,
    Manifest,
    ResumeCertificate,
    Verdict,
)
from headrace.config import encode
from headrace.evaluation.gate import judge
from headrace.evaluation.guarantees import CERTIFIED_CONFIG
from headrace.evaluation.policy import GateConfig
from headrace.provenance import STAGES, Given, Stage
from headrace.storage import Stored

CONFIG: dict[str, Any] = {
    "steps": 100,
    "checkpoint_every_steps": 50,
    "log_every_steps": 5,
    "guard": {"skips": 9, "factor": 4},
}
CONFIG |= {"data": {"rows": 8}}
EVERYTHING = GateConfig(
    metric="facts/exact_match", max_latency_ms=50.0, min_items_checked=0.9, certificate="", approvers=("ada",)
)
PRETRAINED = Stage(init=None, shards={"text": Given(digest="3" * 64, pieces=("1" * 64,))})
FINETUNED = Stage(init="4" * 64, shards={"asked": Given(digest="2" * 64)})
FINGERPRINT = "5" * 64
"""Of the file that every report of `report` was measured on."""
NAMES = ["latency", "decontaminated data", "resume certificate"]


class Case:
    """A candidate with all the evidence that a policy can ask for, which tests take apart."""

    def __init__(self, folder: Path, report: Callable[..., Stored[EvalReport]]) -> None:
        self.folder, self.report = folder, report
        self.train(PRETRAINED, FINETUNED)
        self.summary("1" * 64, "2" * 64)
        self.endpoint()
        self.certificate()
        self.reports = {
            "candidate": report(self.digest, facts=[1.0] * 90 + [0.0] * 10).path,
            "base": report("old", facts=[1.0] * 20 + [0.0] * 80).path,
        }
        self.uris = {role: folder / role for role in ("checkpoint", "endpoint", "data")}

    def train(self, *stages: Stage) -> None:
        facts = Checkpoint(
            step=1, tokens_seen=1, labels_seen=1, model={}, tokenizer="t", mask="prefix", config=CONFIG, loss=None
        )
        self.digest = self.seal("checkpoint", facts, {}, state={STAGES: encode(stages)}).digest

    def seal(self, name: str, facts: Any, parents: dict[str, str], **files: Any) -> Manifest:
        with storage.writing(self.folder / name) as tree:
            for file, values in files.items():
                (tree.path / f"{file}.json").write_text(json.dumps(values))
            return tree.commit(facts, parents)

    def summary(self, *pieces: str, unchecked: int = 1, name: str = "data", **changes: Any) -> None:
        numbers = {"documents": 9, "tokens": 9, "exact": 0, "near": 0, "quarantined": 0}
        found: dict[str, Any] = {"contaminated": 2, "overlapping": 2, "items": 20}
        items = changes.get("items", found["items"])
        looked_for = LookedFor(files=changes.pop("files", (FINGERPRINT, "6" * 64)), items=items, unchecked=unchecked)
        found["looked_for"] = {"other": LookedFor(files=("8" * 64,), items=9, unchecked=9), "heldout": looked_for}
        facts = DataSummary(**{**numbers, **found, **changes}, mixture_off_points=None)
        parents = {f"text_{number}": piece for number, piece in enumerate(pieces)} | {"exclusions": "9" * 64}
        self.seal(name, facts, parents, report={})

    def endpoint(self, **changes: Any) -> None:
        facts = Endpoint(
            model="m", checkpoint=self.digest, url="u", answers={"a": "b"}, ready_seconds=1.0, latency_ms=50.0
        )
        self.seal("endpoint", dataclasses.replace(facts, **changes), {})

    def certificate(self, config: dict[str, Any] = CONFIG, **changes: Any) -> None:
        facts = ResumeCertificate(
            recipe="demo", stage="instruct", config="c", code="0.1.0+abc", torch="2", device="cpu", steps=16,
            killed_at=(3, 9), digests={}, differences=(), passed=True,
        )  # fmt: skip
        short = {
            **config,
            "steps": 16,
            "checkpoint_every_steps": 4,
            "log_every_steps": 1,
            "guard": {**config["guard"], "skips": 1},
        }
        name = CERTIFIED_CONFIG.removesuffix(".json")
        self.seal("certificate", dataclasses.replace(facts, **changes), {}, **{name: short})

    def verdict(self, policy: GateConfig = EVERYTHING) -> Verdict:
        policy = dataclasses.replace(policy, certificate=str(self.folder / "certificate"))
        manifest = judge(self.folder / "verdict", self.reports, "m", policy, evidence=self.uris)
        facts: Verdict = manifest.facts
        return facts

    def blocked_by(self) -> tuple[list[str], str]:
        """Rules that failed, and why the first of them did."""
        verdict = self.verdict()
        failed = [rule for rule in verdict.rules if not rule.passed]
        assert verdict.passed == (not failed)
        return [rule.name for rule in failed], failed[0].reason if failed else ""


def reseal(uri: Path, files: dict[str, Any]) -> None:
    """Seal an artifact anew with other JSON in some of its files, or without those of None."""
    facts = storage.read_manifest(uri).facts
    kept = {path.relative_to(uri): path.read_bytes() for path in uri.rglob("*") if path.is_file()}
    shutil.rmtree(uri)
    with storage.writing(uri) as tree:
        for name, data in kept.items():
            values = files.get(str(name), data)
            if values is not None and str(name) != MANIFEST:
                (tree.path / name).parent.mkdir(exist_ok=True)
                (tree.path / name).write_bytes(data if values is data else json.dumps(values).encode())
        tree.commit(facts)
