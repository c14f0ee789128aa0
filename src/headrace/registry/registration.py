"""A version made: its files, and everything that it is known by, at once."""

import json

from headrace.artifacts import Checkpoint, Verdict
from headrace.config import encode
from headrace.mlflow_server import client
from headrace.registry.card import CARD_FILE, card, description
from headrace.registry.lineage import lineage
from headrace.registry.marks import CHECKPOINT, VERDICT
from headrace.registry.versions import EVIDENCE, Model, Version, resolve
from headrace.storage import Stored

FOLDER, VERDICT_FOLDER = "checkpoint", "verdict"
"""Where a registered checkpoint and its verdict lie among its run's artifacts."""
TAG_CHARACTERS = 100_000
"""Longest value MLflow takes for a version's tag."""


def find(model: Model, verdict: Stored[Verdict]) -> Version | None:
    """The version that an interrupted promotion on the same verdict has left."""
    candidate = (version for version in model.versions if version.checkpoint == verdict.facts.candidate)
    return next((version for version in candidate if version.tags.get(VERDICT) == verdict.digest), None)


def register(name: str, checkpoint: Stored[Checkpoint], verdict: Stored[Verdict], run_id: str) -> Version:
    """Copy the files to the run, then create the version with everything it is known by at once."""
    client().log_artifacts(run_id, str(checkpoint.path), FOLDER)
    client().log_artifacts(run_id, str(verdict.path), VERDICT_FOLDER)
    run = client().get_run(run_id)
    tags = {CHECKPOINT: checkpoint.digest, VERDICT: verdict.digest, EVIDENCE: _evidence(verdict.facts)}
    tags |= lineage(checkpoint, run.data.tags)
    text = card(name, checkpoint, verdict, tags)
    client().log_text(run_id, text, CARD_FILE)
    source = f"{run.info.artifact_uri}/{FOLDER}"
    made = client().create_model_version(name, source, run_id, tags=tags, description=description(text))
    return resolve(f"{name}/{made.version}")


def _evidence(verdict: Verdict) -> str:
    """The verdict as JSON, cut to what a tag can hold; the whole of it lies beside the checkpoint."""
    values = encode(verdict)
    text = json.dumps(values)
    if len(text) > TAG_CHARACTERS:
        brief = [{**rule, "reason": rule["reason"][:500], "numbers": {}} for rule in values["rules"]]
        text = json.dumps({**values, "rules": brief})
    while len(text) > TAG_CHARACTERS:
        brief = brief[: len(brief) // 2]
        text = json.dumps({**values, "rules": brief})
    return text
