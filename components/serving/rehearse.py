"""A candidate behind an endpoint, before anything is promoted."""

from kfp import dsl

from components.base import component


@component
def rehearse(checkpoint: dsl.Input[dsl.Model], model: str, config: dict, endpoint: dsl.Output[dsl.Artifact]) -> None:
    """Start an endpoint of the candidate, ask it the probes and keep how fast it answered.

    Args:
        checkpoint: The candidate.
        model: Registered name it would be promoted under.
        config: An encoded `DeployConfig`.
        endpoint: Answers, seconds until ready and latency.
    """
    from headrace.config import decode
    from headrace.serving.config import DeployConfig
    from headrace.serving.endpoint import rehearse as rehearse_candidate
    from headrace.tracking import task

    with task(config, {"checkpoint": checkpoint}) as run:
        manifest = rehearse_candidate(checkpoint.path, endpoint.path, model, decode(DeployConfig, config), run)
        run.made(endpoint, manifest, f"{manifest.facts.latency_ms:.0f} ms")
