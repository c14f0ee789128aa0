"""End to end: text to a promoted, served model."""

from kfp import dsl

from components.data.gather import gather
from components.data.train_tokenizer import train_tokenizer
from components.training.pretrain import pretrain
from pipelines.finetuning import teach
from pipelines.placement import on_accelerator, tracked
from pipelines.preparation import Prepared, encode, join
from pipelines.release import judge_and_promote


@dsl.pipeline(name="end-to-end", description="Text to a promoted, served model.")
def end_to_end(
    model: str,
    corpus: dict,
    tokenizer: dict,
    filtering: dict,
    shards: dict,
    pretraining: dict,
    ul2: dict,
    instruct: dict,
    evaluation: dict,
    policy: dict,
    serving: dict,
):
    """Prepare data, pretrain, finetune, evaluate both, and promote and serve the better one."""
    with tracked():
        gathered = gather(config=corpus, evaluation=evaluation)
        made = train_tokenizer(corpus=gathered.outputs["corpus"], config=tokenizer)
        encoded = encode(gathered, made.outputs["tokenizer"], filtering, shards, instruct)
        text, instructions = join(encoded, "text"), join(encoded, "instructions")
        data = Prepared(gathered, made.outputs["tokenizer"], text, instructions, encoded.report)
        base = pretrain(text=data.text.outputs["tokens"], tokenizer=data.tokenizer, config=pretraining)
        taught = teach(data, on_accelerator(base).outputs["checkpoint"], ul2, instruct)
        judge_and_promote(
            taught.outputs["checkpoint"],
            base.outputs["checkpoint"],
            gathered.outputs["corpus"],
            model,
            evaluation,
            policy,
            serving,
            data.report.outputs["summary"],
        )
