"""Finetuning: a base model through UL2 and an instruction mixture, measured."""

from kfp import dsl
from kfp.dsl import PipelineTask

from components.evaluation.evaluate import evaluate
from components.registry.fetch import fetch
from components.training.finetune import finetune
from pipelines.placement import on_accelerator, tracked
from pipelines.preparation import Prepared, prepared


def teach(data: Prepared, parent: dsl.Model, ul2: dict, instruct: dict) -> PipelineTask:
    """Adapt a parent to UL2, then teach the result to follow instructions."""
    read = {
        "text": data.text.outputs["tokens"],
        "instructions": data.instructions.outputs["tokens"],
        "tokenizer": data.tokenizer,
    }
    adapted = on_accelerator(finetune(parent=parent, config=ul2, **read))
    taught = finetune(parent=adapted.outputs["checkpoint"], config=instruct, **read)
    adapted.set_display_name("finetune ul2")
    return on_accelerator(taught).set_display_name("finetune instruct")


@dsl.pipeline(name="finetuning", description="Take a base model through UL2 and instructions; measure it.")
def finetuning(corpus: dict, filtering: dict, shards: dict, base: str, ul2: dict, instruct: dict, evaluation: dict):
    """Fetch the base model, encode a corpus with its tokenizer, finetune and evaluate."""
    with tracked():
        fetched = fetch(reference=base)
        data = prepared(corpus, fetched.outputs["tokenizer"], filtering, shards, instruct, evaluation)
        taught = teach(data, fetched.outputs["checkpoint"], ul2, instruct)
        evaluate(
            checkpoint=taught.outputs["checkpoint"],
            corpus=data.corpus.outputs["corpus"],
            config=evaluation,
        )
