import socket
from pathlib import Path

import pytest

from headrace.cli.app import run_app
from headrace.cli.ui import check_free
from headrace.errors import UnavailableError


def test_a_port_is_free_again_as_soon_as_nobody_listens_on_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(UnavailableError, match=f"Port {port} on 127.0.0.1 is taken"):
            check_free("127.0.0.1", port)
        with socket.create_connection(("127.0.0.1", port)):
            listener.accept()[0].close()  # which leaves the connection in TIME_WAIT on this side
    check_free("127.0.0.1", port)


def test_the_console_is_looked_for_in_a_project_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    assert run_app(["dashboard", "--port", port]) == 2
    assert "Change to a project directory first." in " ".join(capsys.readouterr().err.split())
