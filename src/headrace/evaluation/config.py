"""What is measured: tasks of the harness, exact match on instructions, perplexity of held-out text."""

import re
from dataclasses import dataclass, field
from typing import Literal, get_args

from headrace.config import nearest
from headrace.errors import ConfigError

HarnessTask = Literal["lambada_openai", "hellaswag", "winogrande", "piqa"]
"""Tasks of lm-evaluation-harness that run unchanged, but from local files."""
EXACT_MATCH = "exact_match"
"""The kind of a task that generates greedily and compares the first line with the target."""
MMLU = "mmlu"
"""One subject of MMLU, as the harness asks it."""
NATURAL_INSTRUCTIONS = "natural_instructions"
"""A task file of Natural-Instructions: exact match and ROUGE-L."""
RAFT = ("raft", "raft_likelihood")
"""A task of RAFT: the label is generated, or the likeliest of all is taken."""
KINDS: tuple[str, ...] = (*get_args(HarnessTask), MMLU, EXACT_MATCH, NATURAL_INSTRUCTIONS, *RAFT)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskConfig:
    """One task on one data file."""

    kind: str
    """`lambada_openai`, `hellaswag`, `winogrande`, `piqa` or `mmlu` of the harness, `exact_match`,
    `natural_instructions`, `raft` or `raft_likelihood`."""
    data: str
    """Name of the data to evaluate on, such as the split `heldout` of a corpus."""
    num_fewshot: int = 0
    """Solved examples put before each prompt."""
    fewshot: str | None = None
    """Name of the data these examples are drawn from; prompts that are evaluated are left out of the draw. A RAFT
    task may name its own data, for it has no other: then each row is asked after some of the others."""
    max_gen_tokens: int = 30
    """Longest answer, where one is generated, to the end of its line at most. Labels of RAFT have up to 17 tokens."""
    limit: int | None = None
    """Evaluate the first examples only."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"There is no task kind {self.kind!r}. {nearest(self.kind, KINDS)}")
        if self.num_fewshot < 0:
            raise ConfigError(f"num_fewshot={self.num_fewshot} is below zero. Set 0 or more.")
        if self.num_fewshot and self.fewshot is None:
            raise ConfigError(
                f"num_fewshot={self.num_fewshot} needs examples to draw from. Name their data in fewshot."
            )
        if self.max_gen_tokens < 1:
            raise ConfigError(f"max_gen_tokens={self.max_gen_tokens} generates nothing. Set 1 or more.")
        if self.limit is not None and self.limit < 2:
            raise ConfigError(f"limit={self.limit} leaves no standard error. Set 2 or more, or none.")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalConfig:
    """Everything measured about one checkpoint; two reports are comparable where this and the data are equal."""

    tasks: dict[str, TaskConfig] = field(default_factory=dict)
    """By the name their metrics carry, as in `facts_heldout/exact_match`."""
    perplexity: dict[str, str] = field(default_factory=dict)
    """Name of the metrics to name of the data: documents of held-out text."""
    headline: str | None = None
    """The metric shown for the whole report; the first one measured where none is named."""
    bos_eos: bool = False
    """Put `<|endoftext|>` before every context of a task, as for GPT-J's published numbers; the harness does not.
    Held-out text is read after one either way."""
    seed: int = 0
    """Few-shot examples follow from it."""
    max_batch_tokens: int = 2**13
    """Tokens read side by side at most; lower it when memory runs out. It decides no score."""

    def __post_init__(self) -> None:
        if not self.tasks and not self.perplexity:
            raise ConfigError("Nothing is to be measured: tasks and perplexity are both empty. Set one of them.")
        for name in [*self.tasks, *self.perplexity]:
            if not NAME.fullmatch(name):
                raise ConfigError(f"{name!r} cannot name a file of scores. Use letters, digits, '_', '-' and '.'.")
        if self.headline is not None and self.headline.rpartition("/")[0] not in {*self.tasks, *self.perplexity}:
            known = {*self.tasks, *self.perplexity}
            raise ConfigError(f"headline={self.headline!r} is measured by nothing. {nearest(self.headline, known)}")
        both = self.tasks.keys() & self.perplexity.keys()
        if both:
            raise ConfigError(f"{sorted(both)[0]!r} names a task and a perplexity. Rename one of them.")
        if self.max_batch_tokens < 1:
            raise ConfigError(f"max_batch_tokens={self.max_batch_tokens} holds no token. Set 1 or more.")

    def data_names(self) -> list[str]:
        """Names of all data read, sorted."""
        return sorted({*self.measured().values(), *(task.fewshot for task in self.tasks.values() if task.fewshot)})

    def measured(self) -> dict[str, str]:
        """Name of the data that each task and each perplexity is measured on; what is only shown is none of it."""
        return {name: task.data for name, task in self.tasks.items()} | self.perplexity
