"""Which MLflow server answers here, and how its silence is told."""

import contextlib
import functools
import logging
import os
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from headrace.errors import AuthorityError, HeadraceError, UnavailableError

EXPERIMENT = "headrace"
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
PATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""A silent server should be named within seconds; MLflow's own patience is several minutes."""
AWAY = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}
"""Codes of MLflow's errors that say something about the server rather than about the request."""
REFUSING = {"UNAUTHENTICATED": "does not know", "PERMISSION_DENIED": "lets no further"}
"""Codes that say something about who asks, in words."""
CURRENT_USER = "/api/2.0/mlflow/users/current"
"""Where MLflow's own authentication says who asks."""


def home() -> Path:
    """Directory of runs, artifacts and the embedded MLflow store: `.headrace`, or `HEADRACE_HOME`."""
    return Path(os.environ.get("HEADRACE_HOME", ".headrace")).absolute()


def tracking_uri() -> str:
    """The MLflow server of the environment, or a SQLite file under `home()`.

    A user and password within an HTTP address are moved to MLflow's own variables, from where they
    reach no log, message or file.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}"
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return uri
    credentials, _, host = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    os.environ["MLFLOW_TRACKING_USERNAME"] = urllib.parse.unquote(user)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = urllib.parse.unquote(password)
    os.environ["MLFLOW_TRACKING_URI"] = parts._replace(netloc=host).geturl()
    return os.environ["MLFLOW_TRACKING_URI"]


def set_defaults() -> None:
    """Make MLflow quiet and quick to give up, where the environment does not say otherwise; before it is imported."""
    defaults = PATIENT | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)


@functools.cache
def client() -> Any:
    """An `MlflowClient` on `tracking_uri()`, checked once for an answer.

    Every later call through it raises an `UnavailableError` where the server is silent.

    Raises:
        UnavailableError: The server or the file does not answer.
        AuthorityError: The server asks for a password and this is none of its users'.
    """
    set_defaults()
    import mlflow

    uri = tracking_uri()
    try:
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        mlflow.set_tracking_uri(uri)
        made = mlflow.MlflowClient(uri, uri)
        with impatience(), authority_told():
            made.get_experiment_by_name(EXPERIMENT)
    except HeadraceError:
        raise
    except Exception as error:
        raise _unreachable(error) from error
    return _Asking(made)


@contextlib.contextmanager
def impatience() -> Iterator[None]:
    """Wait less for answers, where silence is expected or can be borne."""
    before = {name: os.environ.get(name) for name in IMPATIENT}
    os.environ.update(IMPATIENT)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ.update({name: value} if value is not None else {})


class _Asking:
    """An `MlflowClient` that tells a silent server from a refused request."""

    def __init__(self, made: Any) -> None:
        self._made = made

    def __getattr__(self, name: str) -> Callable[..., Any]:
        ask = getattr(self._made, name)

        @functools.wraps(ask)
        def asked(*arguments: Any, **options: Any) -> Any:
            with told_plainly():
                return ask(*arguments, **options)

        return asked


@contextlib.contextmanager
def told_plainly() -> Iterator[None]:
    """Turn a server's silence into an `UnavailableError`; its refusals pass as MLflow raised them."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in AWAY:
            raise
        raise _unreachable(error) from error
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError):
        raise
    except OSError as error:  # what the network raises, here and in requests
        raise _unreachable(error) from error


@contextlib.contextmanager
def authority_told() -> Iterator[None]:
    """Turn a server's refusal of whoever asks into an `AuthorityError`."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if not refused(error):
            raise
        told = f"{REFUSING[error.error_code]} {credentials().username or 'a user without a name'}"
        raise AuthorityError(
            f"MLflow at {tracking_uri()} {told} ({_first_line(error)}). Set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD to a user who may, or ask for the permission."
        ) from error


def refused(error: Any) -> bool:
    """Whether an `MlflowException` is about who asks rather than about what is asked."""
    return error.error_code in REFUSING


def credentials() -> Any:
    """MLflow's own credentials: of its variables, or of its file in the home directory."""
    from mlflow.utils.credentials import get_default_host_creds

    return get_default_host_creds(tracking_uri())


def authenticated_user() -> str:
    """The user that the server knows whoever asks as; empty where it asks nobody who they are.

    Raises:
        AuthorityError: It knows them not.
        UnavailableError: It does not answer.
    """
    from mlflow.utils.rest_utils import http_request

    client()
    if not tracking_uri().startswith("http"):
        return ""
    with told_plainly():
        answer = http_request(credentials(), CURRENT_USER, "GET", raise_on_status=False)
    described = answer.headers.get("Content-Type", "").startswith("application/json") and answer.status_code == 200
    return str(answer.json()["user"]["username"]) if described else ""


def _unreachable(error: Exception) -> UnavailableError:
    return UnavailableError(
        f"MLflow at {tracking_uri()} does not answer ({_first_line(error)}). Start it or set MLFLOW_TRACKING_URI."
    )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:160] if str(error) else type(error).__name__
