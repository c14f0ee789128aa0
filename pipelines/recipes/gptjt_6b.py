"""GPT-JT 6B from GPT-J: 20,000 steps of UL2 on the Pile, then 7,000 of an instruction mixture.

Every step is 64 rows of 2048 tokens, 2.62 B tokens in the first stage and 0.92 B in the second. The
mixture here is the Pile (55 %) and instructions (45 %: P3, Natural-Instructions, MMLU-CoT) by position.
Source: the model card of GPT-JT and its training repository.
"""

from headrace.data.corpus import CorpusConfig
from headrace.data.loader import LoaderConfig, SourceConfig
from headrace.evaluation.gate import GateConfig
from headrace.models.gptj import GPTJConfig
from headrace.serving.config import DeployConfig
from headrace.training import optimizer, schedule
from headrace.training.config import TrainConfig
from pipelines.recipe import Recipe
from pipelines.recipes.gptj_6b import EVALUATION, HELDOUT

WIDGET_PROMPT = "Return the currency of the given country. Input: Switzerland Output:"


def stage(steps: int, sources: dict[str, SourceConfig]) -> TrainConfig:
    """One stage of GPT-JT's training, the prompt seen whole."""
    return TrainConfig(
        model=GPTJConfig(),
        data=LoaderConfig(context_tokens=2048, rows=64, sources=sources),
        mask="prefix",
        steps=steps,
        microbatch_rows=1,
        optimizer=optimizer.gptjt(),
        schedule=schedule.gptjt(steps),
        z_loss=0.0,
        precision="bf16",
        checkpoint_every_steps=100,
    )


def gptjt_6b() -> Recipe:
    """For the `finetuning` and `release` chains; `headrace convert import` puts GPT-J where `base` says."""
    text = SourceConfig(weight=0.55, objective="ul2")
    instructions = SourceConfig(weight=0.45, objective="instruction")
    return Recipe(
        model="gptjt-6b",
        corpus=CorpusConfig(
            files={
                "text": "corpora/pile/train",
                "instructions": "corpora/instructions",
                **HELDOUT,
            }
        ),
        ul2=stage(20_000, {"text": SourceConfig(objective="ul2")}),
        instruct=stage(7_000, {"text": text, "instructions": instructions}),
        evaluation=EVALUATION,
        policy=GateConfig(metric="winogrande/acc", floor=0.65),
        serving=DeployConfig(probes=(WIDGET_PROMPT,)),
        base="checkpoints/gptj-6b",
    )
