"""Where workers leave word for one another: a store of torch's that none of them keeps, so that any may die.

`python -m headrace.training.board PORT` keeps one, and remembers nothing once it is stopped.
"""

import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from headrace.errors import ConfigError, HeadraceError, UnavailableError

ANSWER_SECONDS = 60.0
"""For which an answer of the store is waited."""
BEAT_SECONDS = 1.0
"""Between two beats by which a worker shows that it lives."""
LONGEST_LOOK_SECONDS = 2.0
"""What the time between two looks at another's beats counts for at most."""


class Board:
    """Words by key, JSON values, in a store at an address.

    Args:
        address: `HOST:PORT`.
        run: Words of another run are not seen.

    Raises:
        ConfigError: No address.
        UnavailableError: The store does not answer, here and at whatever is asked of it.
    """

    def __init__(self, address: str, run: str) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise ConfigError(f"HEADRACE_STORE={address!r} is no address. Write it like HOST:29400.")
        self._address, self.sent_bytes = address, 0
        patience = timedelta(seconds=ANSWER_SECONDS)
        self.store: Store = self._ask(
            lambda: PrefixStore(run, TCPStore(host, int(port), timeout=patience, wait_for_workers=False)), 0
        )

    def read(self, key: str) -> Any:
        """What was left under a key; None where nothing was."""
        text = self._ask(lambda: self.store.get(key) if self.store.check([key]) else b"", 2 * len(key))
        return json.loads(text) if text else None

    def has(self, key: str) -> bool:
        """Whether anything was left under a key."""
        return bool(self._ask(lambda: self.store.check([key]), len(key)))

    def leave(self, key: str, value: Any) -> None:
        """Leave something under a key."""
        text = json.dumps(value)
        self._ask(lambda: self.store.set(key, text), len(key) + len(text))

    def propose(self, key: str, value: Any) -> Any:
        """Leave something under a key where nothing is; what is there now."""
        return json.loads(self._swap(key, "", json.dumps(value)))

    def change(self, key: str, change: Callable[[Any], Any]) -> None:
        """Replace what is under a key by what `change` makes of it, whoever else does the same meanwhile."""
        while True:
            before = self.read(key)
            old, new = "" if before is None else json.dumps(before), json.dumps(change(before))
            if self._swap(key, old, new) == new:
                return

    def _swap(self, key: str, old: str, new: str) -> str:
        found = self._ask(lambda: self.store.compare_set(key, old, new), len(key) + len(old) + len(new))
        return str(found.decode())

    def count(self, key: str, by: int = 1) -> int:
        """Add to a number, 0 at first, and tell it."""
        return int(self._ask(lambda: self.store.add(key, by), len(key) + 8))

    def _ask(self, question: Callable[[], Any], size: int) -> Any:
        self.sent_bytes += size
        try:
            return question()
        except (RuntimeError, OSError) as error:
            raise UnavailableError(
                f"The store at {self._address} does not answer, and without it workers do not find one another. Start "
                "it by `python -m headrace.training.board PORT`, then the workers: they go on from the last checkpoint."
            ) from error


class Beats:
    """A thread that counts up `beat/NUMBER` while this process runs, by a connection of its own."""

    def __init__(self, board: Board, number: int) -> None:
        self.board, self._number = board, number
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="beats", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._ended.is_set():
            try:
                self.board.count(f"beat/{self._number}")
            except UnavailableError:  # the worker will find out by itself
                return
            self._ended.wait(BEAT_SECONDS)

    def end(self) -> None:
        """Fall silent."""
        self._ended.set()
        self._thread.join(ANSWER_SECONDS)


class Silence:
    """Who has not been heard for some time, as far as this process ran itself meanwhile.

    Args:
        board: Has the beats.
        seconds: Without a new one.
    """

    def __init__(self, board: Board, seconds: float) -> None:
        self._board, self._seconds = board, seconds
        self._heard: dict[int, tuple[int, float, float]] = {}

    def of(self, number: int) -> bool:
        """Look at a worker; whether it has been silent since this was first asked, or has said that it goes."""
        beats, now = self._board.count(f"beat/{number}", 0), time.monotonic()
        before, silent, looked = self._heard.get(number, (beats, 0.0, now))
        # A process that stood still for a minute, as those around it may have, has not listened for one.
        silent = silent + min(now - looked, LONGEST_LOOK_SECONDS) if beats == before else 0.0
        self._heard[number] = (beats, silent, now)
        return silent >= self._seconds or self._board.read(f"gone/{number}") is not None


def main(arguments: list[str]) -> int:
    """Keep a store at a port until SIGTERM or SIGINT."""
    try:
        if len(arguments) != 1 or not arguments[0].isdecimal():
            raise ConfigError(f"{' '.join(arguments)!r} is no port. Give one, such as 29400.")
        try:
            store = TCPStore("0.0.0.0", int(arguments[0]), is_master=True, wait_for_workers=False)
        except (RuntimeError, OSError) as error:
            raise UnavailableError(f"Port {arguments[0]} cannot be had. Give one that is free.") from error
    except HeadraceError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    print(f"Workers find one another at port {store.port}.", flush=True)
    ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
