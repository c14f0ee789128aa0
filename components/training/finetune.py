"""Finetuning from a parent checkpoint: UL2, an instruction mixture, or both at once."""

from kfp import dsl

from components.base import component


@component
def finetune(
    text: dsl.Input[dsl.Dataset],
    instructions: dsl.Input[dsl.Dataset],
    tokenizer: dsl.Input[dsl.Artifact],
    parent: dsl.Input[dsl.Model],
    config: dict,
    checkpoint: dsl.Output[dsl.Model],
) -> None:
    """Continue training from a parent's weights with a fresh optimizer.

    A task that was killed continues from its last checkpoint in `HEADRACE_WORK`.

    Args:
        text: Token shards of plain text, named `text` as a source.
        instructions: Token shards of prompts and targets, named `instructions` as a source.
        tokenizer: The tokenizer of all three.
        parent: Whose weights to start from.
        config: An encoded `TrainConfig`; its sources are named as the shards above or as sources within them.
        checkpoint: Weights, optimizer state, tokenizer; step and loss become metadata.
    """
    from headrace.config import decode
    from headrace.data.mixture import needed
    from headrace.tracking import task, workspace
    from headrace.training.config import TrainConfig
    from headrace.training.loop import train

    shards = {"text": text, "instructions": instructions}
    with task(config, {**shards, "tokenizer": tokenizer, "parent": parent}) as run:
        settings = decode(TrainConfig, config)
        manifest = train(
            {name: shards[name].path for name in needed(shards, settings.data.sources)},
            tokenizer.path,
            checkpoint.path,
            settings,
            init_uri=parent.path,
            workspace=workspace(),
            tracker=run,
        )
        run.made(checkpoint, manifest, f"loss {manifest.facts.loss:.3f}")
