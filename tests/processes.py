"""What every test that starts processes needs of this machine."""

import multiprocessing
import os
import socket
from collections.abc import Sequence
from typing import Any


def forkserver(preloaded: Sequence[str]) -> Any:
    """Makes processes that are forked from one that has imported these modules, and compute on one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preloaded))
    return context


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
