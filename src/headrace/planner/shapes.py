"""Small configurations to take trial steps of."""

from headrace.data.loader import LoaderConfig, SourceConfig
from headrace.models.gptj import GPTJConfig
from headrace.training.config import TrainConfig


def shape(vocabulary: int, layers: int, width: int, context: int, rows: int, microbatch: int) -> TrainConfig:
    """A small configuration to measure, of GPT-J's proportions."""
    model = GPTJConfig(
        vocab_size=vocabulary,
        n_layer=layers,
        d_model=width,
        n_head=width // 64,
        d_ff=4 * width,
        rotary_dim=16,
        context_tokens=context,
    )
    data = LoaderConfig(context_tokens=context, rows=rows, sources={"text": SourceConfig()})
    return TrainConfig(model=model, data=data, steps=100, microbatch_rows=microbatch)


EMPTY = shape(256, 1, 64, 32, 1, 1)
"""Too small to matter: what its process holds is the process itself."""
SHAPES = (
    shape(2048, 4, 256, 256, 8, 8),
    shape(2048, 2, 512, 256, 8, 4),
    shape(16384, 2, 256, 256, 4, 4),
    shape(2048, 4, 256, 2048, 2, 1),
    shape(2048, 8, 512, 128, 2, 2),
    shape(32768, 4, 384, 512, 4, 2),
    shape(8192, 6, 128, 512, 4, 2),
)
"""Each does more of another thing: products, width, vocabulary, attention, parameters, all, and little of each."""
