"""Finetuning: a base model through UL2 and an instruction mixture, measured."""

from kfp import dsl
from kfp.dsl import PipelineTask

from components.evaluation.evaluate import evaluate
from components.registry.fetch import fetch
from components.training.finetune import finetune
from pipelines.placement import on_accelerator, tracked
from pipelines.preparation import Prepared, prepare


def teach(prepared: Prepared, parent: dsl.Model, ul2: dict, instruct: dict) -> PipelineTask:
    """Adapt a parent to UL2, then teach the result to follow instructions."""
    data = {
        "text": prepared.text.outputs["tokens"],
        "instructions": prepared.instructions.outputs["tokens"],
        "tokenizer": prepared.tokenizer,
    }
    adapted = on_accelerator(finetune(parent=parent, config=ul2, **data))
    taught = finetune(parent=adapted.outputs["checkpoint"], config=instruct, **data)
    adapted.set_display_name("finetune ul2")
    return on_accelerator(taught).set_display_name("finetune instruct")


@dsl.pipeline(name="finetuning", description="Take a base model through UL2 and instructions; measure it.")
def finetuning(corpus: dict, shards: dict, base: str, ul2: dict, instruct: dict, evaluation: dict):
    """Fetch the base model, encode a corpus with its tokenizer, finetune and evaluate."""
    with tracked():
        fetched = fetch(reference=base)
        prepared = prepare(corpus, fetched.outputs["tokenizer"], shards)
        taught = teach(prepared, fetched.outputs["checkpoint"], ul2, instruct)
        evaluate(
            checkpoint=taught.outputs["checkpoint"],
            corpus=prepared.corpus.outputs["corpus"],
            config=evaluation,
        )
