"""Processes that act upon a registry all at once, or until they are killed."""

import json
import os
import time
from pathlib import Path
from typing import Any

from headrace import registry, tracking
from headrace.errors import HeadraceError
from tests.processes import forkserver


def processes() -> Any:
    """Makes processes that are forked from one that has imported everything."""
    return forkserver(["headrace.registry", "headrace.tracking", "mlflow", "mlflow.tracking"])


def promote(url: str, folder: Path, step: int, verdict: Path, start: Any, user: str) -> None:
    """Promote once everybody is ready, and leave what came of it beside the verdict."""
    os.environ |= {"MLFLOW_TRACKING_URI": url, "HEADRACE_USER": user, "HEADRACE_HOME": str(folder)}
    run_id = tracking.nested_run("race", f"promote {step}")
    start.wait()
    began = time.monotonic()
    try:
        said = {
            "version": registry.promote(
                "raced", str(folder / f"checkpoint-{step}"), str(verdict), run_id=run_id
            ).version
        }
    except HeadraceError as error:
        said = {"error": type(error).__name__, "told": str(error)}
    Path(f"{verdict}.said").write_text(json.dumps({**said, "seconds": time.monotonic() - began}))


def act(url: str, folder: Path, deed: str, step: int, verdict: Path, ready: Any) -> None:
    """One act upon `killed`, in a process that somebody kills."""
    os.environ |= {"MLFLOW_TRACKING_URI": url, "HEADRACE_USER": "ada", "HEADRACE_HOME": str(folder)}
    run_id = tracking.nested_run("killed", deed)
    ready.set()
    if deed == "rollback":
        registry.rollback("killed", "it stutters")
    elif deed == "approve":
        registry.approve("killed", "it is good")
    else:
        registry.promote("killed", str(folder / f"checkpoint-{step}"), str(verdict), run_id=run_id)
