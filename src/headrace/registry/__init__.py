"""The MLflow model registry: versions that carry their evidence, aliases that move, and who moved them.

`champion` is what is served, `previous` what it replaced, `challenger` what waits for approval. Every act is
an entry of the model's audit trail, which decides where the aliases stand.
"""

from headrace.registry.alignment import settle
from headrace.registry.approval import approve, reject
from headrace.registry.audit import Audit, audit
from headrace.registry.confirmation import confirm_incumbent, confirm_reference, confirm_verdict, confirm_version
from headrace.registry.entry import Entry
from headrace.registry.files import copy_checkpoint, fetch, fetch_report, fetch_verdict
from headrace.registry.marks import CHECKPOINT, PROMOTED_AT, PROMOTED_BY, REJECTED, REPLACED, ROLLED_BACK, VERDICT
from headrace.registry.promotion import promote
from headrace.registry.reinstatement import reinstate
from headrace.registry.reports import keep_reports
from headrace.registry.rollback import rollback
from headrace.registry.succession import incumbent, was_rolled_back
from headrace.registry.versions import (
    CHALLENGER,
    CHAMPION,
    EVIDENCE,
    PREVIOUS,
    Version,
    champion,
    names,
    resolve,
    versions,
)

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "CHECKPOINT",
    "EVIDENCE",
    "PREVIOUS",
    "PROMOTED_AT",
    "PROMOTED_BY",
    "REJECTED",
    "REPLACED",
    "ROLLED_BACK",
    "VERDICT",
    "Audit",
    "Entry",
    "Version",
    "approve",
    "audit",
    "champion",
    "confirm_incumbent",
    "confirm_reference",
    "confirm_verdict",
    "confirm_version",
    "copy_checkpoint",
    "fetch",
    "fetch_report",
    "fetch_verdict",
    "incumbent",
    "keep_reports",
    "names",
    "promote",
    "reinstate",
    "reject",
    "resolve",
    "rollback",
    "settle",
    "versions",
    "was_rolled_back",
]
