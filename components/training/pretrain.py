"""Autoregressive pretraining."""

from kfp import dsl

from components.base import component


@component
def pretrain(
    text: dsl.Input[dsl.Dataset],
    tokenizer: dsl.Input[dsl.Artifact],
    config: dict,
    checkpoint: dsl.Output[dsl.Model],
) -> None:
    """Train a GPT-J from its initialisation.

    A task that was killed continues from its last checkpoint in `HEADRACE_WORK`.

    Args:
        text: Token shards, the source named `text`.
        tokenizer: The tokenizer that made them.
        config: An encoded `TrainConfig`.
        checkpoint: Weights, optimizer state, tokenizer; step and loss become metadata.
    """
    from headrace.config import decode
    from headrace.tracking import task, workspace
    from headrace.training.config import TrainConfig
    from headrace.training.loop import train

    with task(config, {"text": text, "tokenizer": tokenizer}) as run:
        manifest = train(
            {"text": text.path},
            tokenizer.path,
            checkpoint.path,
            decode(TrainConfig, config),
            workspace=workspace(),
            tracker=run,
        )
        run.made(checkpoint, manifest, f"loss {manifest.facts.loss:.3f}")
