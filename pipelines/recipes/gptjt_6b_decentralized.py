"""GPT-JT 6B as it was trained, by workers far apart: ProxSkip-Adam over slow links.

Four workers of 16 rows share every gradient for 200 steps and then average their weights at one step in fifty.
Published workers were pipelines of several GPUs; here each is one process with the whole model, which takes 121 GB for
weights, gradients, moments and control variates in fp32, and activations on top (`headrace plan` says how much).
Source: `dist_dp_proxskip_adam.py` of https://github.com/DS3Lab/Decentralized_FM_alpha.
"""

import dataclasses

from headrace.training import averaging
from headrace.training.config import TrainConfig
from pipelines.recipe import Recipe
from pipelines.recipes.gptjt_6b import gptjt_6b


def gptjt_6b_decentralized() -> Recipe:
    """As `gptjt_6b`, which shares every gradient and is for machines beside each other, but for the averaging."""
    shared = gptjt_6b()
    return dataclasses.replace(shared, ul2=_apart(shared.ul2), instruct=_apart(shared.instruct))


def _apart(stage: TrainConfig | None) -> TrainConfig | None:
    # A checkpoint brings 97 GB of every worker to the main one, as much as three exchanges do.
    averaged = averaging.gptjt()
    return stage and dataclasses.replace(stage, averaging=averaged, checkpoint_every_steps=500)
