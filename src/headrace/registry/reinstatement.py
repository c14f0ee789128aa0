"""A version that is registered already, promoted again on the verdict it was registered with."""

import tempfile
from pathlib import Path

from headrace.artifacts import ModelVersion
from headrace.registry.files import fetch, fetch_verdict
from headrace.registry.promotion import promote
from headrace.registry.versions import resolve


def reinstate(reference: str, reason: str) -> ModelVersion:
    """Promote a registered version, such as one that was taken back by mistake.

    Args:
        reference: `NAME@alias` or `NAME/N`.
        reason: Why; without one, what a person took back or rejected stays so.

    Raises:
        ConfigError: There is no such version.
        IntegrityError: Its files are not the ones that were registered.
        MismatchError: As `promote`.
    """
    version = resolve(reference)
    with tempfile.TemporaryDirectory(prefix="headrace-verdict-") as folder:
        verdict = fetch_verdict(version, Path(folder))
        return promote(version.name, str(fetch(version)), str(verdict), run_id=version.run_id, reason=reason)
