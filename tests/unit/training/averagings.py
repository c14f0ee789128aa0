"""Ways for workers to train apart that meet within a few steps."""

from headrace.training.averaging import AveragingConfig, CompressionConfig

DILOCO = AveragingConfig(kind="diloco", synchronous_steps=2, every_steps=3)
KINDS = [
    AveragingConfig(kind="proxskip", synchronous_steps=2, probability=0.4),
    DILOCO,
    AveragingConfig(
        kind="compressed", synchronous_steps=2, every_steps=2, compression=CompressionConfig(outer_momentum=0.5)
    ),
]
