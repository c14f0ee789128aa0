"""What a report was asked for and of which data: `evaluation.json`, beside its scores."""

import hashlib
import importlib.metadata
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from headrace.artifacts import EvalReport
from headrace.config import decode, encode
from headrace.evaluation.config import EvalConfig
from headrace.evaluation.sources import Data, state, uris
from headrace.storage import Stored

DETAILS = "evaluation.json"
PLACEMENT = ("max_batch_tokens", "headline")
"""Parts of a configuration that decide no score."""


class Measured(NamedTuple):
    """A task, or a perplexity, and one of the files it was measured on."""

    name: str
    data: str
    """What the configuration calls its data, such as the split `heldout` of a corpus."""
    fingerprint: str


def describe(config: EvalConfig, data: Data) -> dict[str, Any]:
    """What decides the scores besides the checkpoint: the configuration, the harness, each file's SHA-256."""
    kinds = {task.data: task.kind for task in config.tasks.values()}
    kinds.update({task.fewshot: task.kind for task in config.tasks.values() if task.fewshot})
    files = {
        name: [told for uri in uris(data, name) for told in state(kinds.get(name, ""), uri)]
        for name in config.data_names()
    }
    settings = {key: value for key, value in encode(config).items() if key not in PLACEMENT}
    return {"config": settings, "files": files, "lm_eval": importlib.metadata.version("lm_eval")}


def identity(asked: dict[str, Any]) -> str:
    """SHA-256 over what was asked; `EvalReport.data`."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def write_details(folder: Path, values: dict[str, Any]) -> None:
    """Lay down what was asked, and what else there is to tell of the scores."""
    (folder / DETAILS).write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")


def measured_files(report: Stored[EvalReport]) -> Iterator[Measured]:
    """Every file that a report's metrics were taken on; none where it does not say.

    Examples that are only shown before a prompt are not measured: they may be trained on.
    """
    if DETAILS not in report.manifest.files:
        return
    asked = json.loads((report.path / DETAILS).read_text(encoding="utf-8"))
    for name, data in decode(EvalConfig, asked["config"]).measured().items():
        yield from (Measured(name, data, fingerprint) for fingerprint in asked["files"][data])
