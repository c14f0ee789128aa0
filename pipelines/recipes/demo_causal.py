"""The demo's control: the same finetuning with prompts seen causally, to show what seeing them whole is worth."""

import dataclasses

from pipelines.recipe import Recipe
from pipelines.recipes.demo import demo


def demo_causal() -> Recipe:
    """The demo, but for the mask and the name it is registered under."""
    recipe = demo()
    return dataclasses.replace(
        recipe,
        model="gptj-demo-causal",
        ul2=dataclasses.replace(recipe.ul2, mask="causal"),
        instruct=dataclasses.replace(recipe.instruct, mask="causal"),
    )
