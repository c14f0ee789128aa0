"""Messages against the same arithmetic in plain numpy, and workers that exchange them against a simulation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from headrace.training.averaging import AveragingConfig, CompressionConfig
from headrace.training.compressed import Compressed
from headrace.training.compression import compress, decompress, message_bytes, offered, sent_entries
from headrace.training.link import Link
from tests.unit.training.together import returned

CONFIGS = [
    CompressionConfig(bits=bits, bucket=bucket, top_share=share)
    for bits, bucket, share in ((4, 128, 0.2), (2, 7, 0.5), (8, 32, 1.0), (4, 5, 0.001))
]


def vector(length: int, seed: int = 0, scale: float = 1e-5) -> torch.Tensor:
    return torch.randn(length, generator=torch.Generator().manual_seed(seed)) * scale


def up_to_bfloat16(value: np.float32) -> np.float32:
    """The next number of eight significant bits, at or above a positive one."""
    fraction, exponent = np.frexp(value)
    return np.float32(np.ldexp(np.ceil(fraction * 256) / 256, exponent))


def passed_on(values: np.ndarray, config: CompressionConfig) -> np.ndarray:
    """What arrives of a float32 vector."""
    kept = np.sort(np.argsort(-np.abs(values), kind="stable")[: max(1, int(config.top_share * len(values)))])
    arrived, levels = np.zeros_like(values), np.float32(2 ** (config.bits - 1) - 1)
    for start in range(0, len(kept), config.bucket):
        bucket = kept[start : start + config.bucket]
        scale = up_to_bfloat16(np.abs(values[bucket]).max())
        arrived[bucket] = np.rint(values[bucket] / scale * levels) / levels * scale
    return arrived


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("length", [1, 9, 1000, 4097])
def test_a_message_has_the_promised_length_and_arrives_as_computed_by_hand(config, length: int) -> None:
    for seed, scale in enumerate((1e-12, 1e-5, 1.0, 1e4)):
        values = vector(length, seed, scale)
        message = compress(values, config)
        assert (message.dtype, len(message)) == (torch.uint8, message_bytes(length, config))
        arrived = decompress(message, length, config)
        np.testing.assert_allclose(arrived.numpy(), passed_on(values.numpy(), config), rtol=1e-6)


def test_a_message_of_a_million_weights_is_a_hundred_and_seventy_times_smaller_than_they() -> None:
    config = CompressionConfig()
    # Of a tenth of the weights a bit for each, four bits for a fifth and two bytes for every 128 of those.
    assert message_bytes(100_000, config) == 12_500 + 10_000 + 2 * 157
    assert 175 < 4 * 1_000_000 / message_bytes(100_000, config) < 176


def test_the_largest_entries_are_sent_and_lose_at_most_half_a_level() -> None:
    config, values = CompressionConfig(bits=8), vector(5000)
    arrived = decompress(compress(values, config), 5000, config)
    sent = arrived != 0
    assert sent.sum() <= sent_entries(5000, config) == 1000
    assert values[~sent].abs().max() <= values[sent].abs().min()
    assert (arrived - values)[sent].abs().max() <= values.abs().max() * 1.01 / 127 / 2


@pytest.mark.parametrize("bits", [2, 4])
def test_rounding_at_random_loses_nothing_in_the_mean(bits: int) -> None:
    config, values = CompressionConfig(bits=bits, top_share=1.0, bucket=16, stochastic=True), vector(64, scale=1.0)
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([decompress(compress(values, config, generator), 64, config) for _ in range(4000)])
    error = (draws.mean(0) - values).abs() / (draws.std(0) / 4000**0.5 + 1e-6)
    assert error.max() < 4.5
    nearest = decompress(compress(values, CompressionConfig(bits=bits, top_share=1.0, bucket=16)), 64, config)
    assert (nearest - values).abs().max() > 10 * (draws.mean(0) - values).abs().max()


def test_zeros_and_equal_entries_are_sent_too() -> None:
    for config in CONFIGS:
        assert not decompress(compress(torch.zeros(50), config), 50, config).any()
        alike = decompress(compress(torch.full((50,), -2.0), config), 50, config)
        assert (alike == -2.0).sum() == sent_entries(50, config)


def test_every_weight_is_offered_once_in_a_cycle_and_in_an_order_of_its_own() -> None:
    cycles = [[offered(10 * cycle + n, 10, seed=3) for n in range(10)] for cycle in range(20)]
    assert all(sorted(cycle) == list(range(10)) for cycle in cycles)
    assert len({tuple(cycle) for cycle in cycles}) > 15


class Walk:
    """An optimizer whose steps are drawn, each worker's its own."""

    def __init__(self, weights: list[torch.Tensor], rank: int) -> None:
        self._weights, self._draw = weights, np.random.default_rng(rank)

    @torch.no_grad()
    def step(self) -> None:
        for weight in self._weights:
            weight += torch.from_numpy(self._draw.normal(size=weight.shape))


WORLD, STEPS = 3, 25
WALKED = AveragingConfig(
    kind="compressed", synchronous_steps=0, compression=CompressionConfig(one_in=3, top_share=0.4, bits=4, bucket=8)
)


OUTER = replace(WALKED, compression=replace(WALKED.compression, outer_learning_rate=0.8, outer_momentum=0.5))


def walked(config: AveragingConfig) -> tuple[np.ndarray, np.ndarray, int]:
    """Own weights, common weights and bytes sent, after a walk."""
    link, model = Link(), nn.Linear(7, 5).double()
    nn.init.zeros_(model.weight), nn.init.zeros_(model.bias)
    compressed = Compressed(model, Walk(list(model.parameters()), link.rank), config, link)
    for step in range(1, STEPS + 1):
        compressed.update(step)
    own = torch.cat([p.detach().flatten() for p in model.parameters()]).numpy().copy()
    compressed.settle(STEPS)
    return own, torch.cat([p.detach().flatten() for p in model.parameters()]).numpy(), link.sent_bytes


@pytest.mark.parametrize("config", [WALKED, OUTER], ids=["mean", "outer step"])
def test_workers_exchange_as_simulated_in_one_process_and_lose_nothing(config: AveragingConfig) -> None:
    rate, beta = config.compression.outer_learning_rate, config.compression.outer_momentum
    draws, promised = [np.random.default_rng(rank) for rank in range(WORLD)], 0
    own, common, sent, came = np.zeros((WORLD, 40)), np.zeros(40), np.zeros((WORLD, 40)), np.zeros((WORLD, 40))
    momentum = np.zeros(40)
    for step in range(STEPS):
        came += [np.concatenate([draw.normal(size=(5, 7)).ravel(), draw.normal(size=5)]) for draw in draws]
        first = offered(step, 3, seed=0)
        on_offer = np.concatenate([first + np.arange(0, 35 - first, 3), 35 + first + np.arange(0, 5 - first, 3)])
        own = common + came - sent
        unsent = (own - common)[:, on_offer].astype(np.float32)
        arrived = [passed_on(values, WALKED.compression) for values in unsent]
        promised += (WORLD - 1) * message_bytes(len(on_offer), WALKED.compression)
        for rank in range(WORLD):
            sent[rank, on_offer] += arrived[rank]
        momentum[on_offer] = beta * momentum[on_offer] + np.mean(arrived, 0)
        common[on_offer] += rate * (np.mean(arrived, 0) + beta * momentum[on_offer])
    results = returned(WORLD, walked, config)
    for rank, (weights, settled, sent_bytes) in enumerate(results):
        assert sent_bytes == promised
        np.testing.assert_allclose(settled, common, rtol=1e-5, atol=1e-5)
        assert np.array_equal(settled, results[0][1])
        # What a worker still holds beside the common weights, and what it sent, is all that it learned.
        np.testing.assert_allclose(weights - settled + sent[rank], came[rank], rtol=1e-5, atol=1e-5)
