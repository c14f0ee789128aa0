"""Small configurations to take trial steps of."""

import numpy as np
import numpy.typing as npt

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


def two_documents(rows: int, context: int) -> npt.NDArray[np.int32]:
    """Segments of the rows that trial steps are taken on, of which each half is a document."""
    halves_T = 1 + (np.arange(context) >= context // 2).astype(np.int32)
    return np.tile(halves_T, (rows, 1))


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
