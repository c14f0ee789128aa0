from dataclasses import replace

import pytest
import torch

from headrace import peaks
from headrace.data.loader import LoaderConfig, SourceConfig
from headrace.devices import CPU, Device
from headrace.models.gptj import GPTJ, GPTJConfig
from headrace.training.config import TrainConfig
from headrace.training.throughput import Throughput

SHAPE = GPTJConfig(vocab_size=64, n_layer=3, d_model=48, n_head=3, d_ff=80, rotary_dim=6, context_tokens=32)
CONFIG = TrainConfig(
    model=SHAPE,
    data=LoaderConfig(context_tokens=32, rows=4, sources={"text": SourceConfig()}),
    steps=1,
    microbatch_rows=4,
)


def test_mfu_is_six_flops_a_weight_and_token_with_attention_over_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "peak_flops", lambda self, precision: 1e9)
    model = GPTJ(SHAPE)
    products = sum(w.numel() for name, w in model.named_parameters() if w.dim() == 2 and name != "embedding.weight")
    attention = 12 * SHAPE.n_layer * SHAPE.d_model * 32
    flops = 4 * 32 * (6 * products + attention)
    told = Throughput(CONFIG, CPU, devices=2).measured(steps=10, seconds=0.5)
    assert told["throughput/flops_per_second"] == pytest.approx(20 * flops)
    assert told["throughput/mfu"] == pytest.approx(20 * flops / 2e9)
    assert told["memory/peak_bytes"] > 50 * 2**20


def test_of_a_device_that_tells_neither_peak_nor_memory_the_rate_alone_is_told() -> None:
    told = Throughput(CONFIG, Device("xla", torch.device("cpu")), 1).measured(1, 1.0)
    assert told.keys() == {"throughput/flops_per_second"}


def test_a_cpu_is_measured_once_for_each_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks.measured_cpu.cache_clear()
    first = CPU.peak_flops("fp32")
    assert first is not None and first > 1e9
    monkeypatch.setattr(torch, "mm", None)
    assert Throughput(replace(CONFIG, precision="fp32"), CPU, 1).measured(1, 1.0)["throughput/mfu"] > 0
    assert CPU.peak_flops("fp32") == first
