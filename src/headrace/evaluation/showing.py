"""A report as MLflow keeps it and as Kubeflow's own pages show it: the page, and answers by what was right."""

import json
from pathlib import Path
from typing import Any

from headrace.artifacts import Manifest
from headrace.evaluation.config import EvalConfig
from headrace.evaluation.confusion import first
from headrace.evaluation.report import PAGE, read_confusions
from headrace.pages.outputs import write_page
from headrace.tracking import Tracker

NOTHING = "<!doctype html><meta charset='utf-8'><p>There is no version to beat yet.</p>\n"


def keep(report: Path, manifest: Manifest, tracker: Tracker) -> None:
    """Keep the files of a sealed report with the run, under `evaluation`."""
    for name in manifest.files:
        tracker.artifact(report / name, f"evaluation/{name}".rpartition("/")[0])


def show(report: Path, manifest: Manifest, config: EvalConfig, page: Any, confusion: Any) -> None:
    """Fill the artifacts that Kubeflow draws.

    Args:
        report: Where the sealed report lies.
        manifest: Its seal; one without metrics stands for a version that there is not.
        config: What was measured.
        page: A `dsl.HTML`; its metadata holds what its bytes hash to.
        confusion: A `dsl.ClassificationMetrics`, of the first classification task; empty where there is none.
    """
    if PAGE in manifest.files:
        write_page(page, (report / PAGE).read_text(encoding="utf-8"))
        shown = first(config, read_confusions(report, config))
        if shown is not None:
            confusion.log_confusion_matrix(shown.labels, shown.counts)
    else:
        write_page(page, NOTHING)
    # The local cache asks for a file of each output.
    Path(confusion.path).write_text(json.dumps(confusion.metadata))
