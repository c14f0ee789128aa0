import pytest
import torch

from headrace.models.gptj import GPTJ, GPTJConfig
from headrace.models.size import count_parameters

SHAPES = [
    {},
    {"vocab_size": 1000, "n_layer": 2, "d_model": 48, "n_head": 3, "d_ff": 100},
    {"n_layer": 1, "d_model": 128, "context": 32, "rows": 2},
]


@pytest.mark.parametrize("shape", SHAPES)
def test_parameters_are_those_of_the_module(shape, make_train) -> None:
    model = make_train(**shape).model
    with torch.device("meta"):
        module = GPTJ(model)
    counted = count_parameters(model)
    assert counted.total == sum(p.numel() for p in module.parameters())
    assert counted.layers == sum(p.numel() for p in module.layers.parameters())
    assert counted.head == sum(p.numel() for p in module.head.parameters())


def test_gptj_has_its_published_parameters() -> None:
    assert count_parameters(GPTJConfig()).total == 6_050_882_784
