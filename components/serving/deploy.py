"""A promoted version behind an endpoint."""

from kfp import dsl

from components.base import component


@component
def deploy(version: dsl.Input[dsl.Model], config: dict, endpoint: dsl.Output[dsl.Artifact]) -> None:
    """Start the version's endpoint, ask it the probes and keep what it answered.

    Args:
        version: What `promote` made.
        config: An encoded `DeployConfig`.
        endpoint: Address, answers, seconds until ready and latency.
    """
    from headrace import registry, storage
    from headrace.artifacts import ModelVersion
    from headrace.config import decode
    from headrace.serving.config import DeployConfig
    from headrace.serving.endpoint import deploy as deploy_version
    from headrace.tracking import task

    with task(config, {"version": version}) as run:
        promoted = storage.read(version.path, ModelVersion).facts
        checkpoint = str(registry.fetch(registry.resolve(promoted.uri)))
        manifest = deploy_version(checkpoint, endpoint.path, promoted.uri, decode(DeployConfig, config), run)
        answer = next(iter(manifest.facts.answers.values()))
        run.made(endpoint, manifest, f"answers {answer.strip()!r}")
