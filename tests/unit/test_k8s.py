"""The manifests, read as files and, where a kustomize binary is installed, as it renders them."""

import importlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import headrace

K8S = Path(__file__).parents[2] / "k8s"
BASE, KIND = K8S / "base", K8S / "overlays" / "kind"
KUBERNETES = "1.33"
WORKLOADS = ("console", "mlflow", "model-server")

Document = dict[str, Any]


def documents_in(path: Path) -> list[Document]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def kustomization(directory: Path) -> Document:
    return documents_in(directory / "kustomization.yaml")[0]


def base_documents(kind: str = "") -> list[Document]:
    everything = [document for name in kustomization(BASE)["resources"] for document in documents_in(BASE / name)]
    return [document for document in everything if kind in ("", document["kind"])]


def named(kind: str, name: str) -> Document:
    return next(document for document in base_documents(kind) if document["metadata"]["name"] == name)


def pod_of(name: str) -> Document:
    return named("Deployment", name)["spec"]["template"]["spec"]


def container_of(name: str) -> Document:
    (container,) = pod_of(name)["containers"]
    return container


def references(container: Document) -> Iterator[tuple[str, str, str]]:
    """Kind, name and key of what the environment is taken from."""
    for variable in container["env"]:
        for source, reference in variable.get("valueFrom", {}).items():
            yield source, reference["name"], reference["key"]


def rendered(directory: Path) -> list[Document]:
    for command in (["kustomize", "build"], ["kubectl", "kustomize"]):
        if shutil.which(command[0]):
            text = subprocess.run([*command, str(directory)], check=True, capture_output=True, text=True).stdout
            return [document for document in yaml.safe_load_all(text) if document]
    pytest.skip("neither kustomize nor kubectl is installed")


@pytest.mark.parametrize("directory", [BASE, KIND], ids=["base", "kind"])
def test_kustomization_lists_exactly_the_files_beside_it(directory: Path) -> None:
    settings = kustomization(directory)
    listed = [*settings["resources"], *(patch["path"] for patch in settings.get("patches", []))]
    files = sorted(path.name for path in directory.glob("*.yaml") if path.name != "kustomization.yaml")
    assert sorted(name for name in listed if not (directory / name).is_dir()) == files


def test_every_resource_is_valid_for_kubernetes() -> None:
    resources = [*base_documents(), *documents_in(KIND / "mlflow-data.yaml")]
    assert {document["kind"] for document in resources} >= {"Deployment", "Service", "NetworkPolicy", "Namespace"}
    for document in resources:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("directory", [BASE, KIND], ids=["base", "kind"])
def test_rendering_is_valid_and_every_reference_in_it_resolves(directory: Path) -> None:
    documents = rendered(directory)
    for document in documents:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    data = {d["metadata"]["name"]: d["data"] for d in documents if d["kind"] in ("ConfigMap", "Secret")}
    deployments = [document for document in documents if document["kind"] == "Deployment"]
    assert sorted(document["metadata"]["name"] for document in deployments) == list(WORKLOADS)
    for deployment in deployments:
        assert deployment["metadata"]["namespace"] == "headrace"
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        for _, name, key in references(container):
            # On a real cluster the operator brings the database's secret, by hand or from a vault.
            assert key in data.get(name, {}) or (directory == BASE and name == "mlflow-backend")


def test_kind_needs_no_database_and_no_bucket() -> None:
    documents = {(d["kind"], d["metadata"]["name"].rsplit("-", 1)[0]): d for d in rendered(KIND)}
    assert documents["ConfigMap", "headrace"]["data"]["artifacts"] == "mlflow-artifacts:/"
    deployment = next(d for d in rendered(KIND) if d["kind"] == "Deployment" and d["metadata"]["name"] == "mlflow")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert environment["MLFLOW_SERVE_ARTIFACTS"] == "true"
    assert any(environment["MLFLOW_ARTIFACTS_DESTINATION"].startswith(f"{mount}/") for mount in mounts)


def test_patches_change_deployments_and_containers_that_exist() -> None:
    for patch in kustomization(KIND)["patches"]:
        for document in documents_in(KIND / patch["path"]):
            (container,) = document["spec"]["template"]["spec"]["containers"]
            assert container["name"] == container_of(document["metadata"]["name"])["name"]


@pytest.mark.parametrize("name", WORKLOADS)
def test_service_account_selector_ports_and_probes_agree(name: str) -> None:
    deployment, service, container = named("Deployment", name), named("Service", name), container_of(name)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert service["spec"]["selector"].items() <= labels.items()
    assert named("ServiceAccount", pod_of(name)["serviceAccountName"])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(ports)
    probes = [probe for key, probe in container.items() if key.endswith("Probe")]
    assert {probe["httpGet"]["port"] for probe in probes} == {"http"}
    assert any(argument.endswith(f"port={ports['http']}") for argument in container["args"])


@pytest.mark.parametrize("name", WORKLOADS)
def test_pods_meet_the_restricted_pod_security_standard(name: str) -> None:
    pod, container = pod_of(name), container_of(name)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_mount_and_every_key_has_its_source(name: str) -> None:
    pod, container = pod_of(name), container_of(name)
    (generated,) = kustomization(BASE)["configMapGenerator"]
    keys = {literal.partition("=")[0] for literal in generated["literals"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    for source, reference, key in references(container):
        assert (source, reference) == ("secretKeyRef", "mlflow-backend") or (reference == "headrace" and key in keys)


def test_prometheus_is_sent_to_the_port_the_model_server_listens_on() -> None:
    annotations = named("Deployment", "model-server")["spec"]["template"]["metadata"]["annotations"]
    (port,) = container_of("model-server")["ports"]
    assert annotations["prometheus.io/scrape"] == "true"
    assert annotations["prometheus.io/port"] == str(port["containerPort"])
    assert annotations["prometheus.io/path"] == "/metrics"


def test_clients_look_for_mlflow_where_its_service_is() -> None:
    (generated,) = kustomization(BASE)["configMapGenerator"]
    (port,) = named("Service", "mlflow")["spec"]["ports"]
    assert f"tracking-uri=http://mlflow:{port['port']}" in generated["literals"]


@pytest.mark.parametrize(("directory", "recipe"), [(BASE, "gptjt_6b"), (KIND, "demo")], ids=["base", "kind"])
def test_model_served_is_the_champion_that_a_recipe_registers(directory: Path, recipe: str) -> None:
    module = importlib.import_module(f"pipelines.recipes.{recipe}")
    (generated,) = kustomization(directory)["configMapGenerator"]
    assert f"model={getattr(module, recipe)().model}@champion" in generated["literals"]


def test_model_server_is_started_with_options_it_has() -> None:
    from typer.testing import CliRunner

    from headrace.cli.app import app

    container = container_of("model-server")
    offered = CliRunner().invoke(app, [*container["command"][1:], "--help"]).output
    for argument in container["args"][1:]:
        assert argument.partition("=")[0] in offered


def test_images_carry_the_version_of_this_release() -> None:
    images = {name: container_of(name)["image"] for name in WORKLOADS}
    assert images["model-server"] == f"headrace/headrace-serve:{headrace.__version__}"
    assert images["console"] == f"headrace/headrace-console:{headrace.__version__}"
    retagged = {f"{image['name']}:{headrace.__version__}" for image in kustomization(KIND)["images"]}
    assert retagged == {images["model-server"], images["console"]}


def test_mlflow_image_is_the_release_the_clients_are_pinned_to() -> None:
    from mlflow.version import VERSION

    assert container_of("mlflow")["image"] == f"ghcr.io/mlflow/mlflow:v{VERSION}-full"


def test_nothing_is_reached_without_a_policy_that_lets_it() -> None:
    policies = {policy["metadata"]["name"]: policy["spec"] for policy in base_documents("NetworkPolicy")}
    assert policies.pop("deny-ingress") == {"podSelector": {}, "policyTypes": ["Ingress"]}
    for name, policy in policies.items():
        labels = named("Deployment", name)["spec"]["template"]["metadata"]["labels"]
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()
        assert [rule["ports"] for rule in policy["ingress"]] == [[{"port": "http"}]]
    assert "console" not in policies
