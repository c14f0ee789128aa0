"""The end of a pipeline run, however it came."""

from kfp import dsl

from components.base import component


@component
def close(status: dsl.PipelineTaskFinalStatus) -> None:
    """End the MLflow runs of this pipeline run, also those that a killed task left open.

    Args:
        status: How the pipeline ended.
    """
    import os

    from headrace.tracking import PIPELINE_RUN, close_pipeline

    outcome = "FINISHED" if status.state == "SUCCEEDED" else "FAILED"
    if PIPELINE_RUN in os.environ:
        close_pipeline(os.environ[PIPELINE_RUN], outcome)
