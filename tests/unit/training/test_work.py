import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from headrace.models.gptj import GPTJ, GPTJConfig
from headrace.training.work import count_work

SHAPES = [
    {},
    {"vocab_size": 1000, "n_layer": 2, "d_model": 48, "n_head": 3, "d_ff": 100},
    {"n_layer": 1, "d_model": 128, "context": 32, "rows": 2},
]


@pytest.mark.parametrize("shape", SHAPES)
def test_operations_are_those_that_torch_counts_in_the_module(shape, make_train) -> None:
    train = make_train(**shape)
    with torch.device("meta"):
        module = GPTJ(train.model)
        module.turns = module.turns.to("meta")
        tokens_BT = torch.zeros(train.data.rows, train.data.context_tokens, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        module(tokens_BT).sum().backward()
    assert count_work(train).flops == counter.get_total_flops()
    assert count_work(train).tokens == tokens_BT.numel()


def test_gptj_took_its_published_operations(make_train) -> None:
    shape = {name: getattr(GPTJConfig(), name) for name in ("vocab_size", "n_layer", "d_model", "n_head", "d_ff")}
    train = make_train(rows=512, context=2048, **shape)
    assert 383_500 * count_work(train).flops == pytest.approx(1.5e22, rel=0.02)
