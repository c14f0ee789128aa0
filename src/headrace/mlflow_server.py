"""Which MLflow server answers here, and how its silence is told."""

import contextlib
import functools
import logging
import os
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from headrace.errors import UnavailableError

EXPERIMENT = "headrace"
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
PATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""A silent server should be named within seconds; MLflow's own patience is several minutes."""
AWAY = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}
"""Codes of MLflow's errors that say something about the server rather than about the request."""


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


@functools.cache
def client() -> Any:
    """An `MlflowClient` on `tracking_uri()`, checked once for an answer.

    Every later call through it raises an `UnavailableError` where the server is silent.

    Raises:
        UnavailableError: The server or the file does not answer.
    """
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
    import mlflow

    uri = tracking_uri()
    try:
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        mlflow.set_tracking_uri(uri)
        made = mlflow.MlflowClient(uri, uri)
        with impatience():
            made.get_experiment_by_name(EXPERIMENT)
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


def _unreachable(error: Exception) -> UnavailableError:
    reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
    return UnavailableError(
        f"MLflow at {tracking_uri()} does not answer ({reason}). Start it or set MLFLOW_TRACKING_URI."
    )
