"""What the environment asks for and cannot have: attention and compilation of a training run."""

from types import ModuleType

import pytest

from headrace.devices import CPU, Device
from headrace.errors import ConfigError
from headrace.models import attention, compiled
from tests.unit.models.elsewhere import GPU, XLA


@pytest.mark.parametrize(
    ("module", "asked", "device", "said"),
    [
        (attention, "flash", CPU, "HEADRACE_ATTENTION='flash' is no attention"),
        (
            attention,
            "blocks",
            CPU,
            "gradient on the device cuda alone, and this one is cpu. Unset it, or set HEADRACE_DEVICE=cuda",
        ),
        (
            attention,
            "tiles",
            GPU,
            "gradient on the device cpu alone, and this one is cuda. Unset it, or set HEADRACE_DEVICE=cpu",
        ),
        (compiled, "all", CPU, "HEADRACE_COMPILE='all' is no part to compile"),
        (compiled, "layers", XLA, "HEADRACE_COMPILE=layers, and XLA compiles whole steps by itself. Unset it"),
    ],
)
def test_what_cannot_be_is_refused(
    module: ModuleType, asked: str, device: Device, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(module.VARIABLE, asked)
    with pytest.raises(ConfigError, match=said):
        module.asked(device)
