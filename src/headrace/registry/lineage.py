"""Where a version comes from, as tags: the pipeline run, the artifacts it was made of, the code, the image."""

import functools
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import headrace
from headrace.artifacts import Checkpoint
from headrace.provenance import stages_of
from headrace.storage import Stored
from headrace.tracking import RUN_TAG

PIPELINE, PARENTS, DATA = "headrace.pipeline_run", "headrace.parents", "headrace.data"
"""`DATA` lists the training stages, oldest first: digests of the shards that each was given, by name."""
REVISION, IMAGE = "headrace.revision", "headrace.image"
TAGS = (PIPELINE, PARENTS, DATA, REVISION, IMAGE)
REVISION_VARIABLE, IMAGE_VARIABLE = "HEADRACE_REVISION", "HEADRACE_BUILT_AS"
"""Set within an image when it is built: which code is in it, and what the image is called."""


def lineage(checkpoint: Stored[Checkpoint], run: Mapping[str, str]) -> dict[str, str]:
    """Tags of a version to be made; what is not known is left out.

    Args:
        checkpoint: What is registered; it knows its parents and the data of every stage of its training.
        run: Tags of the MLflow run that registers it.
    """
    data = [{name: given.digest for name, given in stage.shards.items()} for stage in stages_of(checkpoint)]
    parents = dict(checkpoint.manifest.parents)
    tags = {
        PIPELINE: run.get(RUN_TAG, ""),
        PARENTS: json.dumps(parents, sort_keys=True) if parents else "",
        DATA: json.dumps(data, sort_keys=True) if data else "",
        REVISION: revision(),
        IMAGE: os.environ.get(IMAGE_VARIABLE, ""),
    }
    return {key: value for key, value in tags.items() if value}


@functools.cache
def revision() -> str:
    """The commit that this code is of, with `+changed` where files differ from it; the release where there is none."""
    if built := os.environ.get(REVISION_VARIABLE):
        return built
    folder = Path(headrace.__file__).parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        # An installed copy may lie within some other project's checkout, which does not know its files.
        _git(folder, "ls-files", "--error-unmatch", "__init__.py")
        return f"{commit}+changed" if _git(folder, "status", "--porcelain", "--", ".") else commit
    except (OSError, subprocess.CalledProcessError):
        return f"headrace {headrace.__version__}"


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
