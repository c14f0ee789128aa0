"""Pretraining: text to a measured base model."""

from kfp import dsl

from components.data.gather import gather
from components.data.train_tokenizer import train_tokenizer
from components.evaluation.evaluate import evaluate
from components.training.pretrain import pretrain
from pipelines.placement import on_accelerator, tracked
from pipelines.preparation import encode, join


@dsl.pipeline(name="pretraining", description="Prepare a corpus, pretrain a GPT-J on it and measure it.")
def pretraining(corpus: dict, tokenizer: dict, filtering: dict, shards: dict, pretraining: dict, evaluation: dict):
    """Gather, tokenize, pretrain and evaluate."""
    with tracked():
        gathered = gather(config=corpus, evaluation=evaluation)
        made = train_tokenizer(corpus=gathered.outputs["corpus"], config=tokenizer)
        encoded = encode(gathered, made.outputs["tokenizer"], filtering, shards, pretraining)
        base = pretrain(
            text=join(encoded, "text").outputs["tokens"],
            tokenizer=made.outputs["tokenizer"],
            config=pretraining,
        )
        evaluate(
            checkpoint=on_accelerator(base).outputs["checkpoint"],
            corpus=gathered.outputs["corpus"],
            config=evaluation,
        )
