"""Workers that take steps of their own and average their weights now and then: ProxSkip-Adam and DiLoCo.

Letters of the published methods: x weights, h control variates, m and v Adam's moments, γ the step's size.
"""

import random
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from headrace.errors import MismatchError
from headrace.training.averaging import AveragingConfig
from headrace.training.link import Link

MET_WEIGHTS = 2**26
"""Weights that ProxSkip averages at a time, so that what it notes of each never takes the room of all."""


class ProxSkip:
    """ProxSkip-Adam: local AdamW steps on corrected gradients, averaged at a toss of a coin that all workers share.

    The first steps are synchronous and form the second moment, which is fixed from then on and therefore equal
    on all workers. Its bias correction goes on as published: a run that turns local after s steps ends with steps
    1 / √(1 - beta2^s) times as long as if it had not (2.35 times after 200 steps with 0.999).
    Each worker's h learns by how much its own momentum differs from that of all, and takes it off; the h of
    all workers sum to zero. Weights decay after the step, and eps is added before the bias is corrected.

    Source: `dist_dp_proxskip_adam.py` of https://github.com/DS3Lab/Decentralized_FM_alpha for the whole, and
    Mishchenko et al. 2022, arXiv:2202.09357, algorithm 2, for ProxSkip, whose γ is here γ / (√v + eps).

    Args:
        model: In fp32, whole on every worker.
        optimizer: AdamW over the model; its moments and learning rate are used, its step is not.
        config: Probability, synchronous steps and seed.
        link: The workers to average with.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, config: AveragingConfig, link: Link) -> None:
        self._optimizer, self._config, self._link = optimizer, config, link
        self._control = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
        self._control_of: dict[Tensor, Tensor] = dict(zip(model.parameters(), self._control.values(), strict=True))

    def shares_gradients(self, step: int) -> bool:
        """Only while the second moment is formed."""
        return step <= self._config.synchronous_steps

    def averages(self, step: int) -> bool:
        """Whether weights are averaged after `step`: the same on every worker, before and after a resume."""
        coin = random.Random(f"{self._config.seed}/{step}").random()
        return not self.shares_gradients(step) and coin < self._config.probability

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Step, average where the coin says so, and decay."""
        met: list[tuple[Tensor, Tensor, Tensor]] = []
        for x, group in self._weights():
            gamma = self._step_size(x, group, learn=self.shares_gradients(step))
            x.sub_(gamma * (self._optimizer.state[x]["exp_avg"] - self._control_of[x]))
            if self.averages(step):
                met.append((x, x.clone(), gamma))
            if sum(one.numel() for one, _, _ in met) >= MET_WEIGHTS:
                self._average(met)
                met = []
        if met:
            self._average(met)
        for x, group in self._weights():
            x.mul_(1 - group["lr"] * group["weight_decay"])

    def _weights(self) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        """All that have a gradient, each with its group's constants."""
        for group in self._optimizer.param_groups:
            yield from ((x, group) for x in group["params"] if x.grad is not None)

    def _step_size(self, x: Tensor, group: dict[str, Any], *, learn: bool) -> Tensor:
        """Bring the moments of `x` up to date, the second only where `learn`; γ for each of its weights."""
        state, (beta1, beta2) = self._optimizer.state[x], group["betas"]
        if not state:
            state |= {"step": torch.zeros(()), "exp_avg": torch.zeros_like(x), "exp_avg_sq": torch.zeros_like(x)}
        state["step"] += 1
        state["exp_avg"].lerp_(x.grad, 1 - beta1)
        if learn:
            state["exp_avg_sq"].lerp_(x.grad.square(), 1 - beta2)  # type: ignore[union-attr]
        taken = state["step"].item()
        size = group["lr"] * (1 - beta2**taken) ** 0.5 / (1 - beta1**taken)
        gamma: Tensor = state["exp_avg_sq"].sqrt().add_(group["eps"]).reciprocal_().mul_(size)
        return gamma

    def _average(self, met: list[tuple[Tensor, Tensor, Tensor]]) -> None:
        """x becomes the mean of x̂ - γ/p h, and h learns p/γ of what that changed."""
        p = self._config.probability
        for x, _, gamma in met:
            x.sub_(gamma * self._control_of[x] / p)
        self._link.mean_([x for x, _, _ in met])
        for x, local, gamma in met:
            # Where the learning rate is 0 nothing was learned that h could take in.
            self._control_of[x].add_(torch.where(gamma > 0, p * (x - local) / gamma, 0.0))

    @torch.no_grad()
    def settle(self, step: int) -> None:
        """Average the weights once more."""
        self._link.mean_(list(self._control_of))

    def meets(self, step: int) -> bool:
        """After synchronous steps, and those that averaged."""
        return self.shares_gradients(step) or self.averages(step)

    def enter(self) -> None:
        """Begin without control variates. Those of all workers sum to zero from the next averaging on."""
        for h in self._control.values():
            h.zero_()

    def state(self) -> dict[str, Tensor]:
        """This worker's control variates, one a weight."""
        return {f"{name}/control": h for name, h in self._control.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take them up again."""
        for name, h in self._control.items():
            h.copy_(taken_from(state, f"{name}/control"))


class DiLoCo:
    """Many inner steps on each worker, then one of Nesterov's along the mean of how far they came.

    Inner moments stay where they are. The weights that all had at the last exchange and the outer momentum are
    equal on all workers.

    Source: Douillard et al. 2023, arXiv:2311.08105, algorithm 1.

    Args:
        model: Whole on every worker.
        optimizer: The inner one, AdamW as published.
        config: Steps between exchanges, outer learning rate and momentum.
        link: The workers to average with.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, config: AveragingConfig, link: Link) -> None:
        self._optimizer, self._config, self._link = optimizer, config, link
        self._weights = dict(model.named_parameters())
        self._common = {name: x.detach().clone() for name, x in self._weights.items()}
        self._momentum = {name: torch.zeros_like(x) for name, x in self._common.items()}
        self._apart = False
        """Whether inner steps have been taken since the weights were last the same on all workers."""

    def shares_gradients(self, step: int) -> bool:
        """Only in the first steps, if at all."""
        return step <= self._config.synchronous_steps

    def exchanges(self, step: int) -> bool:
        """Whether the outer step follows `step`."""
        local = step - self._config.synchronous_steps
        return local > 0 and local % self._config.every_steps == 0

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take an inner step, and the outer one where it is due."""
        self._optimizer.step()
        self._apart = not (self.exchanges(step) or self.shares_gradients(step))
        if self.exchanges(step):
            self._outer_step()
        elif self.shares_gradients(step):
            for name, common in self._common.items():
                common.copy_(self._weights[name])

    def _outer_step(self) -> None:
        moved = {name: common - self._weights[name] for name, common in self._common.items()}
        self._link.mean_(list(moved.values()))
        for name, x in self._weights.items():
            momentum = self._momentum[name].mul_(self._config.outer_momentum).add_(moved[name])
            ahead = moved[name].add_(momentum, alpha=self._config.outer_momentum)
            self._common[name].sub_(ahead, alpha=self._config.outer_learning_rate)
            x.copy_(self._common[name])

    @torch.no_grad()
    def settle(self, step: int) -> None:
        """Average the weights where they are apart, as they are too where the step that was to exchange was skipped."""
        # Not an outer step: after a few inner ones it would be momentum alone.
        if self._apart:
            self._link.mean_(list(self._weights.values()))

    def meets(self, step: int) -> bool:
        """While no inner step has been taken since an exchange."""
        return not self._apart

    def enter(self) -> None:
        """Nothing to do: where workers meet, all have the same."""

    def state(self) -> dict[str, Tensor]:
        """The weights of the last exchange, the outer momentum, and whether the weights are apart."""
        state = {f"{name}/common": x for name, x in self._common.items()}
        state |= {f"{name}/momentum": x for name, x in self._momentum.items()}
        return state | {"apart": torch.tensor(float(self._apart))}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take them up again."""
        for name in self._weights:
            self._common[name].copy_(taken_from(state, f"{name}/common"))
            self._momentum[name].copy_(taken_from(state, f"{name}/momentum"))
        self._apart = bool(taken_from(state, "apart"))


def taken_from(state: Mapping[str, Tensor], name: str) -> Tensor:
    """One tensor of a synchronizer's state.

    Raises:
        MismatchError: It is not there.
    """
    if name not in state:
        raise MismatchError(
            f"The averaging state has no {name!r}, so this worker cannot resume. Initialize from the weights instead."
        )
    return state[name]
