import pytest
from google.protobuf.json_format import MessageToDict
from kfp import dsl

from components.base import component
from pipelines import placement


@component
def learn(steps: int) -> int:
    """Stand for a training step."""
    return steps


def compiled() -> tuple[dict, dict]:
    """IR and platform settings of a chain of one step."""

    @dsl.pipeline(name="placed")
    def placed(steps: int):
        with placement.tracked():
            placement.on_accelerator(learn(steps=steps))

    return MessageToDict(placed.pipeline_spec), MessageToDict(placed.platform_spec)


def test_every_task_is_told_its_run_and_its_services_and_the_exit_task_always_runs() -> None:
    specification, platform = compiled()
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == {"exec-learn", "exec-close"}
    for executor in executors.values():
        (field,) = executor["fieldPathAsEnv"]
        assert field == {"name": "HEADRACE_PIPELINE_RUN", "fieldPath": "metadata.labels['pipeline/runid']"}
        (services,) = executor["configMapAsEnv"]
        assert services["configMapName"] == "headrace-pipelines"
        assert not services.get("optional")
        assert {pair["envVar"] for pair in services["keyToEnv"]} == {"MLFLOW_TRACKING_URI", "HEADRACE_WORK"}
    close = specification["root"]["dag"]["tasks"]["close"]
    assert close["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert not close.get("cachingOptions", {}).get("enableCache")


@pytest.mark.parametrize("resource", ["", "nvidia.com/gpu", "google.com/tpu"])
def test_a_training_step_is_tried_again_and_asks_for_the_accelerator_there_is(
    resource: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "ACCELERATOR", resource)
    specification, _ = compiled()
    container = specification["deploymentSpec"]["executors"]["exec-learn"]["container"]
    asked = container.get("resources", {}).get("accelerator", {})
    assert (asked.get("resourceType", ""), asked.get("resourceCount", "")) == (resource, "1" if resource else "")
    (inner,) = (c for c in specification["components"].values() if "dag" in c)
    assert inner["dag"]["tasks"]["learn"]["retryPolicy"]["maxRetryCount"] == 2
