"""Sizes of a model's parts, from its shape alone."""

from dataclasses import dataclass

from headrace.models.gptj import GPTJConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameters:
    """Sizes of a model's parts; their sum is what `GPTJ` holds."""

    embedding: int
    layers: int
    """All layers together."""
    head: int
    norm: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.embedding + self.layers + self.head + self.norm


def count_parameters(model: GPTJConfig) -> Parameters:
    """Size of every part, vocabulary padding included."""
    width, inner, rows = model.d_model, model.d_ff, model.vocab_size
    vectors = 2 * width + inner + width  # the norm's two, and the biases of both feed-forward products
    return Parameters(
        embedding=rows * width,
        layers=model.n_layer * (4 * width**2 + 2 * width * inner + vectors),
        head=rows * width + rows,
        norm=2 * width,
    )
