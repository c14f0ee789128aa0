"""The MLflow model registry: versions that carry their evidence, and the aliases that move.

`champion` is what is served, `previous` what it replaced.
"""

from headrace.registry.confirmation import confirm_incumbent, confirm_verdict, confirm_version
from headrace.registry.files import copy_checkpoint, fetch
from headrace.registry.promotion import promote, rollback
from headrace.registry.succession import incumbent, was_rolled_back
from headrace.registry.versions import (
    CHAMPION,
    CHECKPOINT,
    EVIDENCE,
    PREVIOUS,
    PROMOTED_AT,
    REPLACED,
    ROLLED_BACK,
    VERDICT,
    Version,
    champion,
    names,
    resolve,
    versions,
)

__all__ = [
    "CHAMPION",
    "CHECKPOINT",
    "EVIDENCE",
    "PREVIOUS",
    "PROMOTED_AT",
    "REPLACED",
    "ROLLED_BACK",
    "VERDICT",
    "Version",
    "champion",
    "confirm_incumbent",
    "confirm_verdict",
    "confirm_version",
    "copy_checkpoint",
    "fetch",
    "incumbent",
    "names",
    "promote",
    "resolve",
    "rollback",
    "versions",
    "was_rolled_back",
]
