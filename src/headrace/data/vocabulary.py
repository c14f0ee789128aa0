"""Where mode tokens and sentinels live: in rows of the embedding that no text ever uses.

A model's vocabulary is padded beyond its tokenizer's: GPT-J holds 50,400 rows for GPT-2's 50,257 ids.
The first three unused rows are UL2's mode tokens, the rest are sentinels, so nothing is resized
and no sentinel can collide with a word.
"""

from dataclasses import dataclass
from typing import Literal

from headrace.errors import ConfigError

Mode = Literal["R", "S", "X"]
MODE_NAMES: dict[Mode, str] = {"R": "[NLU]", "S": "[S2S]", "X": "[NLG]"}
"""The paradigm tokens of UL2: regular, sequential and extreme denoising. Source: arXiv:2205.05131."""
MINIMUM_SENTINELS = 8
"""Fewer than these would cut every document into crumbs before it could be corrupted."""


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Ids beyond the tokenizer's.

    Raises:
        ConfigError: The model has fewer rows than the tokenizer has ids.
    """

    tokenizer_vocabulary: int
    """Ids the tokenizer produces."""
    padded_vocabulary: int
    """Rows of the model's embedding."""

    def __post_init__(self) -> None:
        if self.padded_vocabulary < self.tokenizer_vocabulary:
            raise ConfigError(
                f"A model of {self.padded_vocabulary:,} embedding rows cannot hold a tokenizer of "
                f"{self.tokenizer_vocabulary:,} ids. Raise model.vocab_size or train a smaller tokenizer."
            )

    def mode(self, mode: Mode) -> int:
        """Id of a mode token."""
        return self.tokenizer_vocabulary + list(MODE_NAMES).index(mode)

    @property
    def sentinels(self) -> range:
        """Ids of the sentinels, in the order in which they replace spans."""
        return range(min(self.tokenizer_vocabulary + len(MODE_NAMES), self.padded_vocabulary), self.padded_vocabulary)

    def names(self) -> dict[int, str]:
        """How to print each of these ids: `[NLU]`, `[S2S]`, `[NLG]`, `[0]`, `[1]` and so on."""
        modes = {self.mode(mode): name for mode, name in MODE_NAMES.items()}
        return modes | {token: f"[{index}]" for index, token in enumerate(self.sentinels)}

    def require_sentinels(self, needed: int = MINIMUM_SENTINELS) -> None:
        """Check that the unused rows suffice for denoising.

        Raises:
            ConfigError: They hold fewer than the modes and `needed` sentinels.
        """
        unused = self.padded_vocabulary - self.tokenizer_vocabulary
        if unused < len(MODE_NAMES) + needed:
            enough = padded_size(self.tokenizer_vocabulary, len(MODE_NAMES) + needed)
            raise ConfigError(
                f"vocab_size={self.padded_vocabulary:,} leaves {unused} rows unused, and denoising needs "
                f"{len(MODE_NAMES)} modes and {needed} sentinels. Set it to {enough:,} or more."
            )


def padded_size(tokenizer_vocabulary: int, extra: int = 143, multiple_of: int = 8) -> int:
    """Smallest vocabulary with `extra` unused rows that divides by `multiple_of`.

    The default leaves as many as GPT-J has: three modes and 140 sentinels.
    """
    needed = tokenizer_vocabulary + extra
    return -(-needed // multiple_of) * multiple_of
