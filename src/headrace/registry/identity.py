"""Who acts, as the audit trail records it."""

import getpass
import os
from typing import NamedTuple

from headrace.mlflow_server import authenticated_user

SERVER = "MLflow's authentication"
MLFLOW_USER, OWN_USER = "MLFLOW_TRACKING_USERNAME", "HEADRACE_USER"


class Person(NamedTuple):
    """A name, and what vouches for it."""

    name: str
    known_by: str
    """The server, where it asked for a password; else the variable that gave the name, or `system`, which are what
    the user says."""


def acting() -> Person:
    """Who acts here: whom the MLflow server knows by a password, else who the user says.

    Raises:
        AuthorityError: The server asks for a password and this is none of its users'.
        UnavailableError: It does not answer.
    """
    if name := authenticated_user():
        return Person(name, SERVER)
    for variable in (MLFLOW_USER, OWN_USER):
        if name := os.environ.get(variable, "").strip():
            return Person(name, variable)
    try:
        return Person(getpass.getuser(), "system")
    except (KeyError, OSError):  # a container may run as a number without a name
        return Person(f"uid {os.getuid()}", "system")
