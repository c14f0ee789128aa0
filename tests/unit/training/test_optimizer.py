import math

import pytest
import torch
from torch import nn

from headrace.errors import ConfigError, MismatchError
from headrace.training import optimizer as optimizers
from headrace.training.optimizer import OptimizerConfig


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.norm = nn.LayerNorm(3)
        self.head = nn.Linear(3, 5)


def in_plain_python(values: list[float], gradients: list[list[float]], rates: list[float], c: OptimizerConfig, decay):
    """AdamW of Loshchilov and Hutter, one number at a time in float64."""
    first, second = [0.0] * len(values), [0.0] * len(values)
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        for i, g in enumerate(gradient):
            values[i] -= rate * decay * values[i]
            first[i] = c.beta1 * first[i] + (1 - c.beta1) * g
            second[i] = c.beta2 * second[i] + (1 - c.beta2) * g * g
            mean, square = first[i] / (1 - c.beta1**step), second[i] / (1 - c.beta2**step)
            values[i] -= rate * mean / (math.sqrt(square) + c.eps)
    return values


@pytest.mark.parametrize("config", [optimizers.gptj(), optimizers.gptjt(), OptimizerConfig(beta1=0.5, beta2=0.9)])
def test_weights_follow_adamw_written_out_in_float64(config: OptimizerConfig) -> None:
    torch.manual_seed(0)
    model = Small().double()
    before = {name: p.detach().flatten().tolist() for name, p in model.named_parameters()}
    optimizer = optimizers.build(model, config)
    rates = [0.0, 1e-2, 5e-2, 2e-2, 1e-3]
    gradients: dict[str, list[list[float]]] = {name: [] for name in before}
    for rate in rates:
        for name, parameter in model.named_parameters():
            parameter.grad = torch.randn_like(parameter)
            gradients[name].append(parameter.grad.flatten().tolist())
        optimizers.set_learning_rate(optimizer, rate)
        optimizer.step()
    for name, parameter in model.named_parameters():
        decay = config.weight_decay if name in ("embedding.weight", "head.weight") else 0.0
        expected = in_plain_python(before[name], gradients[name], rates, config, decay)
        assert parameter.flatten().tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_moments_carried_over_continue_the_same_run() -> None:
    torch.manual_seed(0)
    straight, resumed = Small(), Small()
    config = optimizers.gptj()
    gradients = [[torch.randn_like(p) for p in straight.parameters()] for _ in range(4)]

    def steps(model: nn.Module, optimizer: torch.optim.Optimizer, some: list) -> None:
        optimizers.set_learning_rate(optimizer, 0.01)
        for gradient in some:
            for parameter, g in zip(model.parameters(), gradient, strict=True):
                parameter.grad = g.clone()
            optimizer.step()

    optimizer = optimizers.build(straight, config)
    steps(straight, optimizer, gradients[:2])
    resumed.load_state_dict(straight.state_dict())
    saved = {name: tensor.clone() for name, tensor in optimizers.moments(straight, optimizer).items()}
    steps(straight, optimizer, gradients[2:])
    fresh = optimizers.build(resumed, config)
    optimizers.load_moments(resumed, fresh, saved)
    steps(resumed, fresh, gradients[2:])
    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_parameter_without_moments_is_named() -> None:
    model = Small()
    with pytest.raises(MismatchError, match=r"embedding\.weight has no optimizer moments"):
        optimizers.load_moments(model, optimizers.build(model, optimizers.gptj()), {})


@pytest.mark.parametrize("values", [{"beta1": 1.0}, {"beta2": -0.1}, {"eps": 0.0}, {"max_grad_norm": 0.0}])
def test_constants_that_cannot_be_meant_are_refused_with_their_value(values: dict) -> None:
    (name, value), *_ = values.items()
    with pytest.raises(ConfigError, match=f"{name}={value}"):
        OptimizerConfig(**values)
