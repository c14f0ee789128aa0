"""Who acts, as the audit trail records it."""

import getpass
import os
from typing import NamedTuple

from headrace.mlflow_server import client

MLFLOW_USER, OWN_USER = "MLFLOW_TRACKING_USERNAME", "HEADRACE_USER"


class Person(NamedTuple):
    """A name, and what vouches for it."""

    name: str
    known_by: str
    """The variable that gave the name, or `system`. An MLflow server that asks for passwords has checked the
    first of them; the others are what the user says."""


def acting() -> Person:
    """Who acts here: MLflow's user where one is set, else `HEADRACE_USER`, else the user of the system."""
    client()  # moves a user within MLflow's address to its variable
    for variable in (MLFLOW_USER, OWN_USER):
        if name := os.environ.get(variable, "").strip():
            return Person(name, variable)
    try:
        return Person(getpass.getuser(), "system")
    except (KeyError, OSError):  # a container may run as a number without a name
        return Person(f"uid {os.getuid()}", "system")
