"""`headrace ui` and `headrace dashboard`: looking at experiments and releases in a browser."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from headrace.errors import ConfigError, UnavailableError, shown

Port = Annotated[int, typer.Option(help="Port to listen on.")]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
CONSOLE = "dashboards/console/app.py"


def ui(port: Port = 5000, host: Host = "127.0.0.1") -> int:
    """Browse experiments and registered models in MLflow's UI."""
    from headrace.tracking import tracking_uri

    if tracking_uri().startswith("http"):
        typer.echo(f"MLflow runs already: open {shown(tracking_uri())}")
        return 0
    check_free(host, port)
    command = [sys.executable, "-m", "mlflow", "ui", "--host", host, "--port", str(port)]
    # By the environment, since a database's address may hold its password, and others can read a command line.
    return subprocess.call(command, env={**os.environ, "MLFLOW_BACKEND_STORE_URI": tracking_uri()})


def dashboard(port: Port = 8501, host: Host = "127.0.0.1") -> int:
    """Look at runs, their stages and versions with their evidence in the release console."""
    from headrace.tracking import tracking_uri

    check_free(host, port)
    if not Path(CONSOLE).is_file():
        raise ConfigError(f"{Path.cwd()} holds no {CONSOLE}. Change to a project directory first.")
    options = [f"--server.port={port}", f"--server.address={host}", "--server.headless=true"]
    command = [sys.executable, "-m", "streamlit", "run", CONSOLE, *options]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": tracking_uri()}
    return subprocess.call([*command, "--browser.gatherUsageStats=false"], env=environment)


def check_free(host: str, port: int) -> None:
    """Refuse a port that somebody listens on, before anything slow is started.

    Raises:
        UnavailableError: The port is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UnavailableError(f"Port {port} on {host} is taken. Give a free one with --port.") from error
