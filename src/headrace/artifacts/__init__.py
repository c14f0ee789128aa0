"""What flows between the steps: typed facts about a directory, and the manifest that seals it.

A step's output is a directory whose `manifest.json` is written last. The manifest lists every file
with its size and SHA-256, names the artifacts it was made from by digest, and carries the facts of its
kind. Its own digest identifies the artifact: equal digests mean equal bytes, facts and ancestry, so
lineage is a walk from digest to digest. A directory without a manifest does not exist.
"""

from headrace.artifacts.data import Corpus, DataSummary, Exclusions, LookedFor, Signatures, Tokenizer, TokenShards
from headrace.artifacts.evaluation import EvalReport, Metric, Rule, Verdict
from headrace.artifacts.files import LEDGER_FILE, MANIFEST, MODEL_FILE, OPTIMIZER_FILE, STATE_FILE, TOKENIZER_FILE
from headrace.artifacts.manifest import KINDS, FileEntry, Manifest, summary
from headrace.artifacts.release import Endpoint, ModelVersion
from headrace.artifacts.training import Checkpoint, MaskContract, ResumeCertificate

__all__ = [
    "KINDS",
    "LEDGER_FILE",
    "MANIFEST",
    "MODEL_FILE",
    "OPTIMIZER_FILE",
    "STATE_FILE",
    "TOKENIZER_FILE",
    "Checkpoint",
    "Corpus",
    "DataSummary",
    "Endpoint",
    "EvalReport",
    "Exclusions",
    "FileEntry",
    "LookedFor",
    "Manifest",
    "MaskContract",
    "Metric",
    "ModelVersion",
    "ResumeCertificate",
    "Rule",
    "Signatures",
    "TokenShards",
    "Tokenizer",
    "Verdict",
    "summary",
]
