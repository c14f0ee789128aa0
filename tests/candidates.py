"""Checkpoints and verdicts of a few bytes, promoted into a real MLflow store as a pipeline does."""

import json
import os
from pathlib import Path
from typing import Any

from headrace import registry, storage, tracking
from headrace.artifacts import (
    MODEL_FILE,
    STATE_FILE,
    Checkpoint,
    EvalReport,
    Manifest,
    Metric,
    ModelVersion,
    Rule,
    Verdict,
)
from headrace.config import encode
from headrace.provenance import STAGES, Given, Stage

RULES = (Rule(name="beats champion", passed=True, reason="0.87 beats 0.52.", numbers={"p": 0.001}),)


class Candidates:
    """Checkpoints and verdicts on disk, promoted as a pipeline does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def checkpoint(self, step: int) -> str:
        """Its digest; the files lie at `self.path(step)`."""
        facts = Checkpoint(
            step=step, tokens_seen=1, labels_seen=1, model={}, tokenizer="t", mask="causal", config={}, loss=None
        )
        pretrained = Stage(init=None, shards={"pile": Given(digest="2" * 64)})
        with storage.writing(self.path(step)) as tree:
            (tree.path / MODEL_FILE).write_bytes(bytes([step]) * 1000)
            stages = (pretrained, Stage(init="3" * 64, shards={"text": Given(digest="1" * 64)}))
            (tree.path / STATE_FILE).write_text(json.dumps({STAGES: encode(stages)}))
            (tree.path / "deep").mkdir()
            (tree.path / "deep" / "empty.json").write_bytes(b"")
            return tree.commit(facts, {"tokenizer": "0" * 64, "shards_text": "1" * 64}).digest

    def path(self, step: int) -> Path:
        return self.folder / f"checkpoint-{step}"

    def verdict(self, step: int, **changes: Any) -> Path:
        """A passing verdict on a checkpoint, held against the incumbent there is, unless `changes` say otherwise."""
        digest = self.checkpoint(step)
        model = changes.get("model", "gptj")
        beaten = registry.incumbent(model, digest)
        values = {"candidate": digest, "champion": beaten.checkpoint if beaten else None, "passed": True}
        facts = Verdict(**({"model": model, "rules": RULES} | values | changes))
        path = self.folder / f"verdict-{os.urandom(4).hex()}"
        metrics = {"piqa/acc_norm": Metric(value=0.7654, stderr=0.01, n=100)}
        report = Manifest(facts=EvalReport(checkpoint=digest, mask="causal", metrics=metrics), files={})
        with storage.writing(path) as tree:
            registry.keep_reports(tree.path, {"candidate": report})
            tree.commit(facts, {"candidate": report.digest})
        return path

    def promote(self, step: int, verdict: Path | None = None, name: str = "gptj", reason: str = "") -> ModelVersion:
        verdict = verdict or self.verdict(step, model=name)
        run_id = tracking.nested_run("run-1", "promote")
        return registry.promote(name, str(self.path(step)), str(verdict), run_id=run_id, reason=reason)

    def propose(self, step: int, *approvers: str) -> ModelVersion:
        """Promote on a verdict that asks for approval."""
        return self.promote(step, self.verdict(step, approvers=approvers))
