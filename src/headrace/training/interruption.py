"""Being told to stop: SIGTERM is noted at once and answered after the step in progress.

A cluster sends it when a pod is moved or its node is taken back, and SIGKILL follows when the grace period is over
(30 s on Kubernetes unless the pod says otherwise). One step and one checkpoint have to fit into it.
"""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from headrace.errors import Interrupted


class Interruption:
    """While the block runs, SIGTERM sets `asked` instead of ending the process.

    Signals reach the main thread alone; in any other, `asked` stays as it is.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> "Interruption":
        """Take the signal."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Give it back to whoever had it."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def stopped_after(step: int) -> Interrupted:
    """What a run that was told to stop, and has saved `step`, ends with."""
    return Interrupted(f"Stopped by SIGTERM after step {step:,}, which is saved. Run the same again to go on from it.")


def left_after(step: int) -> Interrupted:
    """What a worker that was told to stop ends with where the others go on."""
    return Interrupted(
        f"Stopped by SIGTERM after step {step:,}; the others go on. Start it again to have it join them."
    )
