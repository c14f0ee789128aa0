"""GPT-JT 6B from GPT-J: 20,000 steps of UL2 on the Pile, then 7,000 of an instruction mixture.

Every step is 64 rows of 2048 tokens, 2.62 B tokens in the first stage and 0.92 B in the second. They were taken by
four replicas of two pipeline stages, a row at a time: `HEADRACE_MESH=data=4,pipeline=2` on eight processes.
Source: the model card of GPT-JT and its training repository.
"""

import dataclasses

from headrace.data.loader import SourceConfig
from headrace.evaluation.policy import GateConfig
from headrace.serving.config import DeployConfig
from pipelines.recipe import Recipe
from pipelines.recipes.gptjt_data import gptjt_data, stage

WIDGET_PROMPT = "Return the currency of the given country. Input: Switzerland Output:"


def gptjt_6b() -> Recipe:
    """For the `finetuning` and `release` chains; `headrace convert import` puts GPT-J where `base` says."""
    return dataclasses.replace(
        gptjt_data(),
        tokenizer=None,
        ul2=stage(20_000, {"pile": SourceConfig(objective="ul2")}),
        policy=GateConfig(metric="winogrande/acc", floor=0.65),
        serving=DeployConfig(probes=(WIDGET_PROMPT,)),
        base="checkpoints/gptj-6b",
    )
