"""What others have published on the same tasks, zero-shot, each on the whole data set.

Source: the model card of GPT-J-6B, https://huggingface.co/EleutherAI/gpt-j-6b, table of zero-shot evaluations. The
card ran models with open weights through the harness, GPT-J with `<|endoftext|>` before the context; the rows of
GPT-3 by size are those of its authors (Brown et al. 2020, arXiv:2005.14165), whose harness is another one.
"""

from dataclasses import dataclass

COLUMNS = {
    ("lambada_openai", "perplexity"): "LAMBADA ppl",
    ("lambada_openai", "acc"): "LAMBADA",
    ("winogrande", "acc"): "Winogrande",
    ("hellaswag", "acc_norm"): "HellaSwag",
    ("piqa", "acc_norm"): "PIQA",
}
"""Task kind and metric to the card's column. The card does not say which accuracy it has; GPT-J's of HellaSwag is
the one that is normalised by length, and PIQA's is taken to be the same."""


@dataclass(frozen=True, slots=True)
class Published:
    """One row, in the order of `COLUMNS`: a perplexity, then shares between 0 and 1."""

    model: str
    values: tuple[float, float, float, float, float]

    def value(self, kind: str, metric: str) -> float:
        """The value of one column."""
        return self.values[list(COLUMNS).index((kind, metric))]


GPT_J = Published("GPT-J-6B", (3.99, 0.697, 0.653, 0.661, 0.765))
ROWS = (
    Published("GPT-Neo-2.7B", (5.63, 0.622, 0.565, 0.558, 0.730)),
    Published("GPT-3-2.7B", (4.60, 0.671, 0.623, 0.628, 0.756)),
    GPT_J,
    Published("GPT-3-6.7B", (4.00, 0.703, 0.645, 0.674, 0.780)),
    Published("GPT-3-Curie", (4.00, 0.693, 0.656, 0.685, 0.779)),
    Published("GPT-3-13B", (3.56, 0.725, 0.679, 0.709, 0.785)),
    Published("GPT-3-175B", (3.00, 0.762, 0.702, 0.789, 0.810)),
)
