"""What a recipe is: every value that decides what a chain computes, and nothing about where."""

from dataclasses import dataclass, field

from headrace.data.corpus import CorpusConfig
from headrace.data.filtering.filter import FilterConfig
from headrace.data.shards import ShardConfig
from headrace.data.tokenizer import TokenizerConfig
from headrace.evaluation.config import EvalConfig
from headrace.evaluation.gate import GateConfig
from headrace.serving.config import DeployConfig
from headrace.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """The sections of a chain; a pipeline takes those that its parameters name."""

    model: str
    """Registered name that versions are promoted under."""
    corpus: CorpusConfig
    filtering: FilterConfig = field(default_factory=FilterConfig)
    shards: ShardConfig = field(default_factory=ShardConfig)
    tokenizer: TokenizerConfig | None = None
    pretraining: TrainConfig | None = None
    ul2: TrainConfig | None = None
    instruct: TrainConfig | None = None
    evaluation: EvalConfig
    policy: GateConfig | None = None
    serving: DeployConfig | None = None
    base: str = ""
    """For chains that begin with an existing model: `NAME@alias`, `NAME/N` or a checkpoint directory."""
    candidate: str = ""
    """For `release`: the checkpoint that wants to be promoted, in the same forms."""
