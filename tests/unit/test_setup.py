"""Set-up: what the two commands install, and that a second run of either installs nothing."""

import importlib.metadata
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def planned(*targets: str) -> str:
    """What make would run, without running it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make", "-n", *targets], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(file: str) -> dict[str, str]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / file).read_text().splitlines())
    return {canonical(name): version for name, version in (line.split("==") for line in lines if line)}


def test_a_second_run_installs_nothing_and_a_changed_requirement_does() -> None:
    if not (ROOT / ".venv" / ".dev-installed").exists():
        pytest.skip("these tests run in an environment that make did not build")
    for target in ("setup", "demo", "test"):
        assert "install" not in planned(target)
        assert "uv pip install" in planned("-W", "pyproject.toml", target)


def test_extras_separate_the_users() -> None:
    extras = PROJECT["optional-dependencies"]
    assert {"train", "pipelines", "serve", "console", "xla", "demo", "dev"} <= set(extras)
    assert not any(re.match("kfp|streamlit|lm-eval", need) for need in extras["train"] + extras["serve"])


def needed(*extras: str) -> set[str]:
    """Everything that installing headrace with `extras` brings along here."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [Requirement(f"headrace[{','.join(extras)}]")]
    while waiting:
        wanted = waiting.pop()
        name = canonical(wanted.name)
        marks = [{"extra": extra} for extra in ("", *wanted.extras)]
        asked = [Requirement(line) for line in importlib.metadata.requires(name) or ()]
        asked = [one for one in asked if one.marker is None or any(map(one.marker.evaluate, marks))]
        waiting += [one for one in asked if str(one) not in seen]
        seen |= {str(one) for one in asked}
        found |= {canonical(one.name) for one in asked}
    return found - {"headrace"}


def test_everything_that_is_installed_is_pinned_and_is_what_was_pinned() -> None:
    pinned, packages = pins("constraints.txt"), needed("demo", "dev")
    assert len(packages) > 100
    assert packages <= set(pinned)
    # A build of torch for one kind of device says so behind a plus: 2.13.0+cpu is 2.13.0.
    installed = {name: importlib.metadata.version(name).partition("+")[0] for name in packages}
    assert installed == {name: pinned[name] for name in packages}


def test_the_xla_environment_differs_in_torch_and_what_it_brings_alone() -> None:
    here, there = pins("constraints.txt"), pins("constraints-xla.txt")
    assert {f"{name}=={version}" for name, version in there.items()} >= {
        need.replace("_", "-") for need in PROJECT["optional-dependencies"]["xla"]
    }
    differ = {name for name in here.keys() & there.keys() if here[name] != there[name]}
    assert differ == {"torch"}
