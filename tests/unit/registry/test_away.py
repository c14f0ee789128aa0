"""A registry that goes away in the middle of a promotion: one clear line, and nothing moved, or all of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace import mlflow_server as servers
from headrace import registry, tracking
from headrace.errors import UnavailableError
from headrace.registry import CHAMPION, PREVIOUS
from tests.candidates import Candidates


def aliases(name: str) -> dict[str, int]:
    return {alias: version.number for version in registry.versions(name) for alias in version.aliases}


def die_at(server: Any, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill the server right before it would be asked for `call`."""
    asked = servers._Asking.__getattr__

    def dying(made: Any, name: str) -> Callable[..., Any]:
        if name == call:
            server.kill()
        return asked(made, name)

    monkeypatch.setattr(servers._Asking, "__getattr__", dying)


@pytest.mark.parametrize(
    ("call", "moved", "told"),
    [
        ("log_param", False, "MLflow at http://127.0.0.1:"),
        ("set_registered_model_alias", True, "The promote of version 2 is recorded, and MLflow went away before"),
    ],
)
def test_a_registry_that_goes_away_has_moved_nothing_or_everything(
    mlflow_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, moved: bool, told: str
) -> None:
    monkeypatch.setenv("HEADRACE_USER", "ada")
    for name, value in {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}.items():
        monkeypatch.setenv(name, value)
    candidates, model = Candidates(tmp_path), f"away-{call}"
    candidates.promote(1, name=model)
    verdict = candidates.verdict(2, model=model)
    with monkeypatch.context() as patch:
        die_at(mlflow_server, call, patch)
        with pytest.raises(UnavailableError) as caught:
            candidates.promote(2, verdict, name=model)
    assert str(caught.value).startswith(told) and "\n" not in str(caught.value)
    mlflow_server.start()
    tracking.client.cache_clear()
    assert aliases(model) == ({PREVIOUS: 1, CHAMPION: 2} if moved else {CHAMPION: 1})
    assert bool(registry.audit(model).differences) is moved
    candidates.promote(2, verdict, name=model)
    assert aliases(model) == {PREVIOUS: 1, CHAMPION: 2}
    assert registry.audit(model).differences == ()
