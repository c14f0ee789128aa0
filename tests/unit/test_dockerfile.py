"""The Dockerfile, read instruction by instruction."""

import re
import tomllib
from pathlib import Path

import yaml

import headrace

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
LINES = [line for line in TEXT.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
INSTRUCTIONS = [(line.split()[0], line.partition(" ")[2]) for line in LINES]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BUILDS = dict(re.findall(r"--build-arg EXTRAS=(\S+) -t (\S+)", TEXT))


def arguments(instruction: str) -> list[str]:
    return [rest for name, rest in INSTRUCTIONS if name == instruction]


def final_stage() -> list[tuple[str, str]]:
    last = max(index for index, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM")
    return INSTRUCTIONS[last:]


def test_image_runs_as_the_user_whom_the_manifests_name() -> None:
    user = [rest for name, rest in final_stage() if name == "USER"][-1]
    documents = yaml.safe_load_all((ROOT / "k8s" / "base" / "model-server.yaml").read_text())
    deployment = next(document for document in documents if document["kind"] == "Deployment")
    # A name would not do: the kubelet cannot tell that it is not root.
    assert int(user) == deployment["spec"]["template"]["spec"]["securityContext"]["runAsUser"] > 0


def test_dependencies_are_the_pinned_ones() -> None:
    assert (ROOT / "constraints.txt").is_file()
    installs = [command for command in arguments("RUN") if "pip install" in command]
    installer, dependencies, ours = installs
    assert "--constraint constraints.txt uv" in installer
    assert "--constraints constraints.txt" in dependencies
    assert "--requirements pyproject.toml" in dependencies
    assert "--no-deps" in ours
    assert not re.search(r"\w\.(io|com|dev)/", "".join(LINES))  # whoever builds it chooses the registry


def test_every_image_is_built_from_extras_that_exist() -> None:
    default = next(rest.partition("=")[2] for rest in arguments("ARG") if rest.startswith("EXTRAS="))
    for extras in [default, *BUILDS]:
        assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


def test_the_image_of_steps_has_what_the_demo_gathers_its_facts_from() -> None:
    from components.base import IMAGE

    (extras,) = (extras for extras, name in BUILDS.items() if name == IMAGE)
    needs = [need for extra in extras.split(",") for need in PROJECT["optional-dependencies"][extra]]
    assert {"babel", "countryinfo"} <= {re.split(r"\W", need)[0] for need in needs}


def test_images_have_the_names_that_manifests_and_components_ask_for() -> None:
    from components.base import IMAGE

    manifests = "".join(path.read_text() for path in (ROOT / "k8s" / "base").glob("*.yaml"))
    asked = set(re.findall(r"image: (headrace/\S+)", manifests)) | {IMAGE}
    assert set(BUILDS.values()) == asked
    assert {name.rpartition(":")[2] for name in asked} == {headrace.__version__}


def test_everything_copied_exists_and_reaches_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sources = {name for rest in arguments("COPY") if "--from" not in rest for name in rest.split()[:-1]}
    assert {"src", "components", "pipelines", "dashboards"} <= sources
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored
    assert "*" in ignored


def test_python_is_one_that_the_project_supports() -> None:
    version = next(rest.partition("=")[2] for rest in arguments("ARG") if rest.startswith("PYTHON="))
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert [int(part) for part in version.split(".")] >= [int(part) for part in lowest.split(".")]


def test_console_finds_its_page_in_the_working_directory_of_the_image() -> None:
    page = "dashboards/console/app.py"
    assert page in (ROOT / "k8s" / "base" / "console.yaml").read_text()
    assert (ROOT / page).is_file()
    assert ("WORKDIR", "/headrace") in final_stage()
    assert ("COPY", "dashboards dashboards") in final_stage()
