"""Whether a training run's layers are compiled: one graph for all, in which what stands between products is fused.

On a GPU each norm, cast, GELU and sum by itself reads and writes whole activations, beside products that leave it
little time. On a CPU the same takes as long either way, and half a minute to compile. Speed on GPUs has not been
measured here; that results are the same has, on a CPU.

Source: Ansel et al. 2024, PyTorch 2, doi:10.1145/3620665.3640366; layer by layer as torchtitan does, arXiv:2410.06511.
"""

import os
import shutil
import warnings
from typing import Literal, get_args

from headrace import config
from headrace.devices import Device
from headrace.errors import ConfigError
from headrace.models.gptj import GPTJ

Compiled = Literal["none", "layers"]

VARIABLE = "HEADRACE_COMPILE"


def asked(device: Device) -> Compiled:
    """What the environment wants compiled; where it does not say, layers on GPUs.

    Raises:
        ConfigError: There is no such choice, no C compiler, or XLA, which compiles whole steps, drives the device.
    """
    suited = "layers" if device.kind == "cuda" else "none"
    choice = config.asked(VARIABLE, get_args(Compiled), suited, "part to compile")
    if choice == "none":
        return "none"
    if device.kind == "xla":
        raise ConfigError(f"{VARIABLE}={choice}, and XLA compiles whole steps by itself. Unset it.")
    if not any(map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))):
        raise ConfigError(
            f"{VARIABLE}={choice} needs a C compiler, and there is none in PATH. Install gcc, or set {VARIABLE}=none "
            "and HEADRACE_ATTENTION=dense."
        )
    return "layers"


def compile_layers(model: GPTJ, device: Device) -> None:
    """Have the model's layers compiled when they are first called, as far as that is asked for; names stay the same.

    Raises:
        ConfigError: As `asked`.
    """
    if asked(device) == "layers":
        # The one that is left is how rotation looks at its angles, and computes nothing.
        warnings.filterwarnings("ignore", "Torchinductor does not support code generation for complex operators")
        for layer in model.layers:
            layer.compile()
