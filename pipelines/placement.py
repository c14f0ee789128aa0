"""Where a step runs; never what it computes.

The embedded runner ignores all of it. On a cluster each task learns the pipeline run it belongs to from
its pod's label and its services from a ConfigMap, and training steps ask for an accelerator.
"""

import contextlib
import os
import re
from collections.abc import Iterator

from kfp import dsl, kubernetes
from kfp.dsl import PipelineTask
from kfp.dsl.base_component import BaseComponent
from kfp.dsl.pipeline_context import Pipeline

from components.registry.close import close
from headrace.cli.graph import tasks

ACCELERATOR = os.environ.get("HEADRACE_ACCELERATOR", "")
"""Resource that a training step asks for, such as `nvidia.com/gpu` or `google.com/tpu`; empty for none."""
SERVICES = ("MLFLOW_TRACKING_URI", "HEADRACE_WORK")
CONFIG_MAP = "headrace-pipelines"
"""Holds `SERVICES` in the namespace that pipelines run in. A pod without it does not start, where one that fell
back to a SQLite file of its own would lose what it recorded."""

ASK_THE_WORLD = ("gather", "fetch", "evaluate-incumbent", "gate", "promote")
"""Components whose answers hold only while files or the registry are what they were. The embedded cache looks before
it answers; a cluster's looks at nobody, and would serve scores of evaluation data that has changed since."""


def for_cluster(chain: BaseComponent) -> BaseComponent:
    """Keep a cluster's cache from answering for what asks the world; later tasks follow the digests they are given."""
    for task in tasks(chain):
        component = re.sub(r"^comp-|-\d+$", "", task.component_ref.name)
        if component in ASK_THE_WORLD:
            task.caching_options.enable_cache = False
    return chain


@contextlib.contextmanager
def tracked() -> Iterator[None]:
    """Tell every task within which run it belongs to, and close the MLflow runs however it ends."""
    with dsl.ExitHandler(close().set_caching_options(False), name="tracked"):
        yield
    for task in Pipeline.get_default_pipeline().tasks.values():
        kubernetes.use_field_path_as_env(
            task, env_name="HEADRACE_PIPELINE_RUN", field_path="metadata.labels['pipeline/runid']"
        )
        kubernetes.use_config_map_as_env(task, CONFIG_MAP, {name: name for name in SERVICES})


def on_accelerator(task: PipelineTask) -> PipelineTask:
    """Give a training task its accelerator, and let it continue where a lost pod stopped."""
    task.set_retry(num_retries=2)
    if ACCELERATOR:
        task.set_accelerator_type(ACCELERATOR).set_accelerator_limit(1)
    return task
