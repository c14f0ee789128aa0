"""Which layers a training run compiles, and that they compute the same."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from headrace.devices import CPU
from headrace.errors import ConfigError
from headrace.models import compiled
from headrace.models.gptj import GPTJ, GPTJConfig
from headrace.models.masks import packed_prefix_lm
from headrace.models.recompute import Recompute
from tests.unit.models.elsewhere import GPU, XLA

SMALL = GPTJConfig(vocab_size=61, n_layer=9, d_model=48, n_head=3, d_ff=80, rotary_dim=6, context_tokens=32)


def test_layers_are_compiled_on_gpus_unless_something_else_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", sys.executable)  # there is a compiler
    monkeypatch.delenv(compiled.VARIABLE, raising=False)
    assert [compiled.asked(device) for device in (GPU, CPU, XLA)] == ["layers", "none", "none"]
    monkeypatch.setenv(compiled.VARIABLE, "none")
    assert compiled.asked(GPU) == "none"
    monkeypatch.setenv(compiled.VARIABLE, "layers")
    assert compiled.asked(CPU) == "layers"


def test_where_no_compiler_is_found_it_is_said_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(ConfigError, match="HEADRACE_COMPILE=layers needs a C compiler, and there is none in PATH"):
        compiled.asked(GPU)


def gradients(model: GPTJ, second: int = 20) -> dict[str, torch.Tensor]:
    """Of every weight, on two rows of two documents each, the prompt of the first seen whole."""
    model.zero_grad()
    draw = torch.Generator().manual_seed(0)
    segments_BT = 1 + (torch.arange(32) >= second).int().expand(2, 32)
    mask = packed_prefix_lm(segments_BT, (torch.arange(32) < 7).expand(2, 32))
    model(torch.randint(61, (2, 32), generator=draw), mask).square().mean().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
@pytest.mark.parametrize("policy", ["none", "selective"])
def test_all_layers_are_one_graph_and_give_the_gradients_of_those_that_are_not_compiled(
    policy: Recompute, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = GPTJ(SMALL)
    model.recompute = policy
    plain, names = gradients(model), list(model.state_dict())
    monkeypatch.setenv(compiled.VARIABLE, "layers")
    torch._dynamo.reset()
    counters.clear()
    compiled.compile_layers(model, CPU)
    found = gradients(model)
    assert counters["stats"]["unique_graphs"] == 1
    assert list(model.state_dict()) == names
    for name, gradient in plain.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("policy", ["none", "layers", "selective"])
def test_attention_by_blocks_is_in_the_graph_and_other_documents_take_no_other_one(
    policy: Recompute, flex_on_cpu: None
) -> None:
    torch.manual_seed(0)
    model = GPTJ(SMALL)
    model.attention, model.recompute = "blocks", policy
    plain = {second: gradients(model, second) for second in (20, 9, 25)}
    torch._dynamo.reset()
    counters.clear()
    for layer in model.layers:
        layer.compile(backend="aot_eager", fullgraph=True)  # inductor knows the gradient on GPUs alone
    graphs = []
    for second, expected in plain.items():
        for name, gradient in gradients(model, second).items():
            torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6, msg=name)
        graphs.append(counters["stats"]["unique_graphs"])
    assert 0 < graphs[0] == graphs[-1] < SMALL.n_layer
