"""Which attention a training run takes."""

import pytest
import torch

from headrace.devices import CPU, Device
from headrace.errors import ConfigError
from headrace.models import attention

GPU, XLA = (Device(kind, torch.device("cpu")) for kind in ("cuda", "xla"))


def test_every_kind_of_device_has_the_one_that_suits_it_unless_another_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(attention.VARIABLE, raising=False)
    assert [attention.asked(device) for device in (GPU, CPU, XLA)] == ["blocks", "tiles", "dense"]
    monkeypatch.setenv(attention.VARIABLE, "dense")
    assert [attention.asked(device) for device in (GPU, CPU, XLA)] == ["dense"] * 3


@pytest.mark.parametrize(
    ("asked", "device", "said"),
    [
        ("flash", CPU, "HEADRACE_ATTENTION='flash' is no attention"),
        (
            "blocks",
            CPU,
            "gradient on the device cuda alone, and this one is cpu. Unset it, or set HEADRACE_DEVICE=cuda",
        ),
        ("tiles", GPU, "gradient on the device cpu alone, and this one is cuda. Unset it, or set HEADRACE_DEVICE=cpu"),
    ],
)
def test_an_attention_that_cannot_be_is_refused(
    asked: str, device: Device, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(attention.VARIABLE, asked)
    with pytest.raises(ConfigError, match=said):
        attention.asked(device)
