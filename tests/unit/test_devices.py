import pytest
import torch

from headrace import devices
from headrace.errors import ConfigError


def test_the_cpu_is_picked_where_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(devices.VARIABLE, raising=False)
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert devices.pick().kind == expected
    monkeypatch.setenv(devices.VARIABLE, "cpu")
    assert devices.pick() == devices.CPU


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("gpu", "HEADRACE_DEVICE='gpu' is no kind of device"),
        ("cuda", "process 7 of this machine has no GPU: [0-7] are visible. Start at most [0-7] processes"),
        ("xla", "torch_xla cannot be imported beside torch .* Install headrace.xla. in an environment of its own"),
    ],
)
def test_a_device_that_is_absent_is_refused(asked: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(devices.VARIABLE, asked)
    monkeypatch.setenv("LOCAL_RANK", "7")
    with pytest.raises(ConfigError, match=said):
        devices.pick()


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_products_take_the_precision_asked_for(precision, dtype: torch.dtype) -> None:
    with devices.CPU.autocast(precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_draws_are_taken_up_again_where_they_were_left() -> None:
    state = devices.CPU.rng_state()
    first = torch.rand(5)
    devices.CPU.restore_rng(state | {"cuda_rng": "00"})
    assert torch.equal(torch.rand(5), first)


def test_the_peak_of_memory_is_told_in_bytes() -> None:
    held = torch.ones(2**26)
    assert held.nbytes < (devices.CPU.peak_memory_bytes() or 0) < 2**38
