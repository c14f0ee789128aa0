"""Workers in processes of their own, against all of them written out in one, in numpy and float64."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from headrace.errors import MismatchError
from headrace.training import averaging, local_updates
from headrace.training import optimizer as optimizers
from headrace.training.averaging import AveragingConfig
from headrace.training.link import Link
from headrace.training.local_updates import ProxSkip
from headrace.training.optimizer import OptimizerConfig
from headrace.training.synchronizers import synchronizer
from tests.unit.training.together import returned

WORLD, STEPS = 3, 30
ADAM = OptimizerConfig(beta1=0.8, beta2=0.95, eps=1e-3, weight_decay=0.05)
PROXSKIP = AveragingConfig(kind="proxskip", synchronous_steps=4, probability=0.3, seed=1)
DILOCO = AveragingConfig(kind="diloco", synchronous_steps=3, every_steps=4)
COMPRESSED = AveragingConfig(kind="compressed", synchronous_steps=2, every_steps=2)
KINDS = [AveragingConfig(), PROXSKIP, DILOCO, COMPRESSED]


def rate(step: int) -> float:
    return 0.0 if step in (1, 17) else 0.05 * (1 - step / 50)


def rows(step: int, rank: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng((step, rank))
    return draw.normal(size=(6, 4)) + rank, draw.normal(size=(6, 5))


class Worker:
    """A linear model, the optimizer and a synchronizer, stepped as the training loop does."""

    def __init__(self, config: AveragingConfig) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(4, 5).double()
        self.optimizer = optimizers.build(self.model, ADAM)
        self.link = Link()
        self.synchronizer = synchronizer(self.model, self.optimizer, config, self.link)

    def steps(self, first: int, last: int) -> None:
        for step in range(first, last + 1):
            x, y = map(torch.from_numpy, rows(step, self.link.rank))
            (self.model(x) - y).square().mean().backward()
            if self.synchronizer.shares_gradients(step):
                self.link.mean_([p.grad for p in self.model.parameters()])
            optimizers.set_learning_rate(self.optimizer, rate(step))
            self.synchronizer.update(step)
            self.optimizer.zero_grad(set_to_none=True)

    def weights(self) -> np.ndarray:
        return torch.cat([p.detach().flatten() for p in self.model.parameters()]).numpy()


def trained(config: AveragingConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Weights before and after they settle, the synchronizer's state and the bytes sent until it settles."""
    worker = Worker(config)
    worker.steps(1, STEPS)
    before, sent = worker.weights().copy(), worker.link.sent_bytes
    worker.synchronizer.settle(STEPS)
    state = [tensor.flatten() for tensor in worker.synchronizer.state().values()]
    return before, worker.weights(), torch.cat([torch.empty(0), *state]).numpy(), sent


class Simulated:
    """All workers at once: `x` has a row for each."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        linear = nn.Linear(4, 5).double()
        start = torch.cat([p.detach().flatten() for p in linear.parameters()]).numpy()
        self.x = np.tile(start, (WORLD, 1))
        self.m, self.v = np.zeros_like(self.x), np.zeros_like(self.x)
        self.decay = np.where(np.arange(25) < 20, ADAM.weight_decay, 0.0)

    def gradients(self, step: int, shared: bool) -> np.ndarray:
        """Of the mean square, by hand."""
        found = []
        for rank, x in enumerate(self.x):
            inputs, wanted = rows(step, rank)
            error = 2 / wanted.size * (inputs @ x[:20].reshape(5, 4).T + x[20:] - wanted)
            found.append(np.concatenate(((error.T @ inputs).ravel(), error.sum(0))))
        return np.tile(np.mean(found, 0), (WORLD, 1)) if shared else np.array(found)

    def adamw(self, step: int, shared: bool) -> None:
        gradients, lr = self.gradients(step, shared), rate(step)
        self.x -= lr * self.decay * self.x
        self.m += (1 - ADAM.beta1) * (gradients - self.m)
        self.v += (1 - ADAM.beta2) * (gradients**2 - self.v)
        deviation = np.sqrt(self.v / (1 - ADAM.beta2**step)) + ADAM.eps
        self.x -= lr * self.m / (1 - ADAM.beta1**step) / deviation


def agree(results: list, expected: np.ndarray, settled: np.ndarray) -> None:
    for rank, (before, after, _, _) in enumerate(results):
        np.testing.assert_allclose(before, expected[rank], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(after, settled, rtol=1e-10, atol=1e-12)
        assert np.array_equal(after, results[0][1])


def test_sharing_every_gradient_is_one_run_on_the_rows_of_all() -> None:
    simulated = Simulated()
    for step in range(1, STEPS + 1):
        simulated.adamw(step, shared=True)
    agree(returned(WORLD, trained, AveragingConfig()), simulated.x, simulated.x[0])


@pytest.mark.parametrize("met", [2**26, 10])
def test_proxskip_adam_follows_the_published_method(met: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_updates, "MET_WEIGHTS", met)
    s, p, h, averaged = Simulated(), PROXSKIP.probability, np.zeros((WORLD, 25)), 0
    for step in range(1, STEPS + 1):
        synchronous = step <= PROXSKIP.synchronous_steps
        gradients, lr = s.gradients(step, synchronous), rate(step)
        s.m = ADAM.beta1 * s.m + (1 - ADAM.beta1) * gradients
        if synchronous:
            s.v = ADAM.beta2 * s.v + (1 - ADAM.beta2) * gradients**2
        gamma = lr * np.sqrt(1 - ADAM.beta2**step) / (1 - ADAM.beta1**step) / (np.sqrt(s.v) + ADAM.eps)
        s.x = s.x - gamma * (s.m - h)
        if not synchronous and random.Random(f"{PROXSKIP.seed}/{step}").random() < p:
            averaged += 1
            local = s.x
            s.x = np.tile((local - gamma / p * h).mean(0), (WORLD, 1))
            h = h if lr == 0 else h + p / gamma * (s.x - local)
        s.x = s.x - lr * s.decay * s.x
    assert 3 < averaged < STEPS / 2
    assert np.abs(h).max() > 0.01
    results = returned(WORLD, trained, PROXSKIP)
    agree(results, s.x, s.x.mean(0))
    controls = [state for _, _, state, _ in results]
    np.testing.assert_allclose(controls, h, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(np.sum(controls, 0), 0, atol=1e-10)


def test_diloco_follows_the_published_method() -> None:
    s, momentum = Simulated(), np.zeros(25)
    for step in range(1, STEPS + 1):
        s.adamw(step, shared=step <= DILOCO.synchronous_steps)
        if step <= DILOCO.synchronous_steps:
            common = s.x[0].copy()
        elif (step - DILOCO.synchronous_steps) % DILOCO.every_steps == 0:
            outer_gradient = common - s.x.mean(0)
            momentum = 0.9 * momentum + outer_gradient
            common = common - 0.7 * (outer_gradient + 0.9 * momentum)
            s.x = np.tile(common, (WORLD, 1))
    assert np.ptp(s.x, 0).max() > 1e-4
    agree(returned(WORLD, trained, DILOCO), s.x, s.x.mean(0))


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.kind)
def test_a_worker_that_resumes_takes_the_same_steps_to_the_last_bit(config: AveragingConfig) -> None:
    for straight, resumed in returned(2, straight_and_resumed, config):
        assert np.array_equal(straight, resumed)


def straight_and_resumed(config: AveragingConfig) -> tuple[np.ndarray, np.ndarray]:
    straight, first, second = Worker(config), Worker(config), Worker(config)
    straight.steps(1, 20)
    first.steps(1, 11)
    second.model.load_state_dict(first.model.state_dict())
    optimizers.load_moments(second.model, second.optimizer, optimizers.moments(first.model, first.optimizer))
    second.synchronizer.restore({name: tensor.clone() for name, tensor in first.synchronizer.state().items()})
    second.steps(12, 20)
    for worker in (straight, second):
        worker.synchronizer.settle(20)
    return straight.weights(), second.weights()


def test_weights_are_averaged_at_one_step_in_fifty_after_two_hundred_synchronous_ones() -> None:
    config = averaging.gptjt()
    worker = Worker(config)
    assert isinstance(worker.synchronizer, ProxSkip)
    assert all(worker.synchronizer.shares_gradients(step) for step in range(1, 201))
    assert not any(worker.synchronizer.shares_gradients(step) for step in range(201, 300))
    assert not any(worker.synchronizer.averages(step) for step in range(1, 201))
    averaged = [step for step in range(201, 20_201) if worker.synchronizer.averages(step)]
    assert 340 < len(averaged) < 460
    other = Worker(replace(config, seed=2)).synchronizer
    assert isinstance(other, ProxSkip)
    assert [step for step in range(201, 20_201) if other.averages(step)] != averaged


@pytest.mark.parametrize("config", KINDS[1:], ids=lambda config: config.kind)
def test_a_state_of_something_else_is_refused(config: AveragingConfig) -> None:
    with pytest.raises(MismatchError, match=r"no 'weight/(control|common)'"):
        Worker(config).synchronizer.restore({})


@pytest.mark.parametrize(("steps", "apart"), [(3, False), (10, True), (11, False)])
def test_weights_that_have_just_met_settle_without_a_word(steps: int, apart: bool) -> None:
    for straight, resumed in returned(2, settled_bytes, steps):
        assert (straight > 0, resumed) == (apart, straight)


def settled_bytes(steps: int) -> tuple[int, int]:
    """What settling sends, in a run and in one that resumes after its last step."""
    straight, resumed = Worker(DILOCO), Worker(DILOCO)
    straight.steps(1, steps)
    resumed.synchronizer.restore(straight.synchronizer.state())
    sent = []
    for worker in (straight, resumed):
        before = worker.link.sent_bytes
        worker.synchronizer.settle(steps)
        sent.append(worker.link.sent_bytes - before)
    return sent[0], sent[1]


def test_every_byte_that_leaves_a_worker_is_counted() -> None:
    weights = 8 * 27 * 2 * (WORLD - 1) // WORLD  # 25 numbers in three shares of 9, each passed on twice
    for config, exchanges in ((AveragingConfig(), STEPS), (DILOCO, 3 + 27 // 4)):
        assert {sent for *_, sent in returned(WORLD, trained, config)} == {exchanges * weights}
    assert [sent for *_, sent in returned(1, trained, DILOCO)] == [0]


def entered(config: AveragingConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The steps at which workers meet, and a newcomer's weights and averaging state after each, given this worker's."""
    worker, met, weights, states = Worker(config), [], [], []
    for step in range(1, STEPS + 1):
        worker.steps(step, step)
        if worker.synchronizer.meets(step):
            newcomer = Worker(config)
            newcomer.model.load_state_dict(worker.model.state_dict())
            newcomer.synchronizer.restore(worker.synchronizer.state())
            newcomer.synchronizer.enter()
            met.append(step)
            weights.append(newcomer.weights().copy())
            states.extend(
                tensor.flatten().numpy().copy() for _, tensor in sorted(newcomer.synchronizer.state().items())
            )
    return np.array(met), np.concatenate(weights), np.concatenate([np.empty(0), *states])


@pytest.mark.parametrize(
    ("config", "often"), [(AveragingConfig(), STEPS), (PROXSKIP, 0), (DILOCO, 3 + 27 // 4), (COMPRESSED, STEPS)]
)
def test_where_workers_meet_a_newcomer_is_the_same_whoever_gives_it_what_it_needs(
    config: AveragingConfig, often: int
) -> None:
    one, *others = returned(WORLD, entered, config)
    assert len(one[0]) == often or config is PROXSKIP
    assert len(one[0]) > 4  # not in the synchronous steps alone
    for other in others:
        assert all(map(np.array_equal, one, other))


def test_control_variates_sum_to_zero_again_after_a_worker_is_gone() -> None:
    for (left,) in returned(WORLD, averaged_without_the_others, PROXSKIP):
        assert left < 1e-9


def averaged_without_the_others(config: AveragingConfig) -> tuple[float]:
    """The largest sum of control variates over all workers, begun with some that sum to something else."""
    worker = Worker(config)
    worker.steps(1, 20)
    lost = {name: h + 0.1 * (worker.link.rank + 1) for name, h in worker.synchronizer.state().items()}
    worker.synchronizer.restore(lost)
    worker.steps(21, STEPS)
    controls = list(worker.synchronizer.state().values())
    worker.link.mean_(controls)
    return (max(h.abs().max().item() for h in controls),)
