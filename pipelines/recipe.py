"""What a recipe is: every value that decides what a chain computes, and nothing about where."""

from dataclasses import dataclass, field

from headrace.config import nearest
from headrace.data.corpus import FACTS_FILES, TRAINED_ON, CorpusConfig
from headrace.data.filtering.filter import FilterConfig
from headrace.data.shards import ShardConfig
from headrace.data.tokenizer import TokenizerConfig
from headrace.errors import ConfigError
from headrace.evaluation.config import EvalConfig
from headrace.evaluation.policy import GateConfig
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

    def __post_init__(self) -> None:
        """Refuse names that the corpus does not have: a chain would come upon them after days of work.

        Raises:
            ConfigError: Evaluation data that is no split, or a mixture's source that no document can have.
        """
        known = _splits(self.corpus)
        for name in self.evaluation.data_names():
            if name not in known:
                raise ConfigError(f"evaluation reads {name!r}, which is no split of the corpus. {nearest(name, known)}")
        for stage in filter(None, (self.pretraining, self.ul2, self.instruct)):
            _check_mixture(stage, self.corpus)


def _splits(corpus: CorpusConfig) -> set[str]:
    """Splits that a corpus may have; what a source is trained on as may depend on its files."""
    if corpus.kind == "facts":
        return set(FACTS_FILES)
    return {*corpus.files, *TRAINED_ON, *(source.split for source in corpus.sources.values() if source.split)}


def _check_mixture(stage: TrainConfig, corpus: CorpusConfig) -> None:
    """Find each name of a mixture among the sources, where nothing but they is trained on."""
    if corpus.kind == "facts" or set(corpus.files) & set(TRAINED_ON):
        return  # documents name their sources themselves
    known = {*corpus.sources, *TRAINED_ON}
    for name in stage.data.sources:
        if name.partition("/")[0] not in known:
            raise ConfigError(f"data.sources has {name!r}, which no source of the corpus is. {nearest(name, known)}")
