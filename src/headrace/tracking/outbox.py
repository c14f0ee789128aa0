"""What a run tells its tracking server, kept while the server is away."""

import logging
import time
from typing import Any

from headrace.errors import UnavailableError, shown
from headrace.mlflow_server import client, impatience

BATCH = 100
"""Parameters, tags or metrics that one call to the tracking server may carry."""
AWAY_SECONDS = 30
"""How long a server that did not take metrics is left alone before it is asked again."""

log = logging.getLogger(__name__)


class Outbox:
    """Parameters, metrics and tags on their way to one MLflow run, in the order in which they were told.

    Args:
        run_id: The MLflow run.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._batches: list[dict[str, Any]] = []
        self._ask_again = 0.0

    def __len__(self) -> int:
        """Batches that are kept."""
        return len(self._batches)

    def send(self, kind: str, items: list[Any]) -> None:
        """Send what is kept and then these; where the server is away, all of it is kept for the next time.

        Args:
            kind: `params`, `metrics` or `tags`.
            items: MLflow's entities of that kind.
        """
        self._batches += [{kind: items[start : start + BATCH]} for start in range(0, len(items), BATCH)]
        if time.monotonic() < self._ask_again:
            return
        try:
            self.flush()
        except UnavailableError as error:
            self._ask_again = time.monotonic() + AWAY_SECONDS
            log.warning("%d batches are kept for later. %s", len(self), error)

    def flush(self) -> None:
        """Send what is kept, in order; what the server refuses for good must not hold up the rest.

        Raises:
            UnavailableError: The server is away; what it did not take is kept.
        """
        from mlflow.exceptions import MlflowException

        while self._batches:
            ((kind, items),) = self._batches[0].items()
            alone: list[dict[str, Any]] = []
            try:
                with impatience():
                    client().log_batch(self._run_id, **self._batches[0])
            except MlflowException as error:
                if len(items) > 1:
                    alone = [{kind: [item]} for item in items]
                else:
                    log.warning("MLflow refused %s: %s", items[0], shown(str(error)))
            self._batches[:1] = alone
