"""What flows between the steps: typed facts about a directory, and the manifest that seals it.

A step's output is a directory whose `manifest.json` is written last. The manifest lists every file
with its size and SHA-256, names the artifacts it was made from by digest, and carries the facts of its
kind. Its own digest identifies the artifact: equal digests mean equal bytes, facts and ancestry, so
lineage is a walk from digest to digest. A directory without a manifest does not exist.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, ClassVar, Literal

from headrace.config import decode, encode
from headrace.errors import ConfigError, IntegrityError

MANIFEST = "manifest.json"
MODEL_FILE = "model.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
STATE_FILE = "state.json"
TOKENIZER_FILE = "tokenizer.json"
LEDGER_FILE = "ledger.bin"
MaskContract = Literal["causal", "prefix"]
"""How a model sees its prompt: each token what came before it, or the whole prompt at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """Documents as `.jsonl` files, one object with `text` (or `prompt` and `target`) a line."""

    kind: ClassVar[str] = "corpus"

    documents: int | None
    """Documents over all files; None where files are referenced and were not read."""
    sources: dict[str, int]
    """Documents per source, summing to `documents`; files per source or split where they are referenced."""
    references: dict[str, str] = field(default_factory=dict)
    """Files that lie elsewhere, by URI, with what tells their present state from another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokenizer:
    """A `tokenizer.json` in the Hugging Face format."""

    kind: ClassVar[str] = "tokenizer"

    vocabulary: int
    """Ids the tokenizer itself produces; a model may hold more rows."""
    fingerprint: str
    """SHA-256 of `tokenizer.json`: shards, checkpoints and endpoints must agree on it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenShards:
    """Encoded documents, memory-mappable."""

    kind: ClassVar[str] = "token_shards"

    tokenizer: str
    """Fingerprint of the tokenizer that encoded them."""
    documents: int
    tokens: int
    sources: dict[str, int]
    """Tokens per source, summing to `tokens`."""
    quarantined: int = 0
    """Documents left out as faulty; `quarantine.jsonl` says which and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Signatures:
    """What is compared of the documents of one file: digests, MinHash signatures, overlaps with evaluation items."""

    kind: ClassVar[str] = "signatures"

    documents: int
    words: int
    bytes: int
    """Of the documents' text, as UTF-8."""
    sources: dict[str, int]
    """Documents per source, summing to `documents`."""
    signed: int
    """Documents with a MinHash signature."""
    permutations: int
    """Values of a signature; 0 where none was made."""
    scheme: str
    """How they were made; signatures are comparable where it is equal."""
    evaluation: str
    """Digest over the evaluation items looked for and how; empty where none were."""
    items: int
    """Evaluation items given."""
    unchecked: int
    """Items among them too short to be looked for, or made of nothing but what many share."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exclusions:
    """Documents that are not to be trained on, each with its reason, as JSON lines."""

    kind: ClassVar[str] = "exclusions"

    documents: int
    """Documents compared."""
    exact: int
    """Documents excluded as exact duplicates."""
    near: int
    """Documents excluded as near duplicates."""
    contaminated: int
    """Documents excluded because they overlap with an evaluation item."""
    overlapping: int
    """Documents that overlap with an evaluation item, excluded or not."""
    items: int
    """Evaluation items looked for."""
    unchecked: int
    """Items among them too short to be looked for, or made of nothing but what many share."""
    sources: dict[str, dict[str, int]]
    """By source: `documents`, `words` and `bytes` compared, and those excluded by reason."""
    config: dict[str, Any]
    """The encoded `FilterConfig`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSummary:
    """A report on prepared data, `report.html` and `report.json`, and its totals for gates."""

    kind: ClassVar[str] = "data_summary"

    documents: int
    tokens: int
    exact: int
    """Documents left out as exact duplicates."""
    near: int
    """Documents left out as near duplicates."""
    contaminated: int
    """Documents left out because they overlap with an evaluation item."""
    overlapping: int
    """Documents that overlap with one, left out or not."""
    items: int
    """Evaluation items that were looked for."""
    quarantined: int
    mixture_off_points: float | None
    """How far the realised share of a source is off its weight, at most, in points; None without a mixture."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """Weights as safetensors, the tokenizer, and how they came to be."""

    kind: ClassVar[str] = "checkpoint"

    step: int
    """Optimizer steps taken."""
    tokens_seen: int
    """Positions trained on, padding left out."""
    labels_seen: int
    """Positions scored by the loss."""
    model: dict[str, Any]
    """The encoded `GPTJConfig`."""
    tokenizer: str
    """Fingerprint of the tokenizer whose ids the embedding rows stand for."""
    mask: MaskContract
    """The mask it was trained under, and must be evaluated and served under."""
    config: dict[str, Any]
    """The encoded `TrainConfig` that made it."""
    loss: float | None
    """Mean training loss over the last steps, nats a label; None for weights that were trained elsewhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumeCertificate:
    """What a killed and resumed run came to beside one that nobody disturbed; `config.json` lies beside."""

    kind: ClassVar[str] = "resume_certificate"

    recipe: str
    stage: str
    """The recipe's section that was run."""
    config: str
    """SHA-256 of the shortened `TrainConfig`, encoded."""
    code: str
    """Release, and a digest over the library's text."""
    torch: str
    device: str
    processes: int = 1
    """That took every step together."""
    steps: int
    killed_at: tuple[int, ...]
    """The step taken last before each kill."""
    digests: dict[str, str]
    """SHA-256 of everything compared, of the undisturbed run."""
    differences: tuple[str, ...]
    """What was not equal, a sentence each."""
    passed: bool
    """Whether nothing differed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One measured number with what is needed to doubt it."""

    value: float
    stderr: float
    """Standard error of `value` over the examples."""
    n: int
    """Examples measured."""
    higher_is_better: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalReport:
    """Metrics of one checkpoint; the scores of each example lie beside them as Parquet."""

    kind: ClassVar[str] = "eval_report"

    checkpoint: str
    """Digest of the checkpoint measured."""
    mask: MaskContract
    metrics: dict[str, Metric]
    """By `task/metric`, such as `facts_heldout/exact_match`."""
    data: str = ""
    """Digest over the evaluation data and what was asked of it; reports are comparable where it is equal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One condition of a gate, with the numbers that decided it."""

    name: str
    passed: bool
    reason: str
    """One sentence with the values compared."""
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """A gate's decision about one candidate, rule by rule."""

    kind: ClassVar[str] = "verdict"

    passed: bool
    candidate: str
    """Digest of the candidate's checkpoint."""
    champion: str | None
    """Digest of the champion's checkpoint it was held against; None where there was none."""
    model: str
    """Registered name the verdict is about."""
    rules: tuple[Rule, ...]
    approvers: tuple[str, ...] = ()
    """Who may approve the promotion; where there are any, one of them must."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelVersion:
    """A registered version and the evidence it was promoted on."""

    kind: ClassVar[str] = "model_version"

    name: str
    version: int
    alias: str
    """The alias that was moved to this version: `champion`, or `challenger` where it waits for approval."""
    checkpoint: str
    """Digest of the checkpoint registered."""
    verdict: str
    """Digest of the verdict that allowed it."""

    @property
    def uri(self) -> str:
        """`models:/NAME/N`, as MLflow writes it."""
        return f"models:/{self.name}/{self.version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """A served version and what it answered when it was first asked."""

    kind: ClassVar[str] = "endpoint"

    model: str
    """`models:/NAME/N` of the version served; the name alone where a candidate was rehearsed."""
    checkpoint: str
    """Digest of its checkpoint."""
    url: str
    """Where it answered."""
    answers: dict[str, str]
    """Prompt to completion, of the probes sent."""
    ready_seconds: float
    latency_ms: float
    """Median over the probes, first byte to last."""


KINDS: dict[str, type[Any]] = {
    cls.kind: cls
    for cls in (
        Corpus,
        Tokenizer,
        Signatures,
        Exclusions,
        TokenShards,
        DataSummary,
        Checkpoint,
        ResumeCertificate,
        EvalReport,
        Verdict,
        ModelVersion,
        Endpoint,
    )
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """Size and SHA-256 of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The seal of an artifact: its facts, its files and its parents."""

    facts: Any
    """One of the dataclasses above."""
    files: dict[str, FileEntry]
    """By path relative to the directory, manifest left out."""
    parents: dict[str, str] = field(default_factory=dict)
    """Digests of the artifacts it was made from, by role."""

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical manifest: the identity of the artifact."""
        return hashlib.sha256(_canonical(self._values()).encode()).hexdigest()

    def to_json(self) -> str:
        """Serialise with the digest, so that a manifest vouches for itself as it does for its files."""
        return _canonical({**self._values(), "digest": self.digest})

    def _values(self) -> dict[str, Any]:
        return {
            "kind": type(self.facts).kind,
            "facts": encode(self.facts),
            "files": encode(self.files),
            "parents": dict(self.parents),
        }

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> "Manifest":
        """Parse what `to_json` wrote, to the last byte.

        Raises:
            IntegrityError: `text` is not a manifest, or altered, or of a kind this release does not know.
        """
        try:
            values: Mapping[str, Any] = json.loads(text)
            facts = KINDS[values["kind"]]
            made = cls(
                facts=decode(facts, values["facts"]),
                files={_inside(name): decode(FileEntry, entry) for name, entry in values["files"].items()},
                parents=dict(values["parents"]),
            )
        except (ConfigError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(f"{where}/{MANIFEST} is no manifest ({error!r}). Make the artifact again.") from error
        if made.to_json().encode() != (text.encode() if isinstance(text, str) else text):
            raise IntegrityError(f"{where}/{MANIFEST} is altered: it is not what it was sealed as. Make it again.")
        return made


def _canonical(values: Mapping[str, Any]) -> str:
    """JSON with sorted keys, so that equal values are equal bytes."""
    return json.dumps(values, sort_keys=True, indent=1) + "\n"


def _inside(name: str) -> str:
    """Refuse a file name that leads out of the artifact: manifests may come from anybody's bucket."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name} lies outside")
    return name


def summary(facts: Any) -> dict[str, str | int | float | bool]:
    """The scalar facts alone, for KFP metadata and MLflow tags."""
    values = {f.name: getattr(facts, f.name) for f in dataclasses.fields(facts)}
    return {name: value for name, value in values.items() if isinstance(value, (str, int, float, bool))}
