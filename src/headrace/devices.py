"""CPU, CUDA and XLA behind one small interface, so that nothing else asks which of them it runs on.

`HEADRACE_DEVICE` names the kind; without it CUDA is taken where there is one, and the CPU otherwise.
XLA is never taken unasked: its package wants a torch of its own (see `constraints-xla.txt`).

Nobody has measured CUDA here yet; the CPU and XLA's CPU client are tested.
"""

import contextlib
import os
import resource
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, cast, get_args

import torch

from headrace import peaks, resident
from headrace.config import asked
from headrace.errors import ConfigError

Kind = Literal["cpu", "cuda", "xla"]
Precision = Literal["fp32", "bf16", "fp16"]

VARIABLE = "HEADRACE_DEVICE"
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Device:
    """Where tensors lie and products are computed, for this process."""

    kind: Kind
    torch: torch.device

    @property
    def backend(self) -> str:
        """What carries sums between processes with such devices; objects always travel through gloo."""
        return "cpu:gloo,cuda:nccl" if self.kind == "cuda" else "gloo"

    @property
    def fuses_optimizer(self) -> bool:
        """Whether an optimizer updates a parameter in one pass instead of about ten."""
        return self.kind != "xla"

    def autocast(self, precision: Precision) -> contextlib.AbstractContextManager[object]:
        """Products and activations in `precision` while the block runs; weights stay as they are."""
        dtype = DTYPES.get(precision, torch.bfloat16)
        return torch.autocast(self.kind, dtype, enabled=precision in DTYPES)

    def finish_step(self) -> None:
        """Cut the graph that XLA records here, at the end of a step; elsewhere nothing is recorded."""
        if self.kind == "xla":
            _xla().sync()

    def peak_memory_bytes(self) -> int | None:
        """Most memory held so far: the device's, or on a CPU the whole process's.

        None on XLA: torch_xla asks no device for it while one stands for all.
        """
        if self.kind == "cuda":
            return torch.cuda.max_memory_allocated(self.torch)
        return _peak_process_bytes() if self.kind == "cpu" else None

    def peak_flops(self, precision: Precision) -> float | None:
        """Products a second in `precision` at most: published, or measured on a CPU; None where nobody knows.

        Published are those in 16 bits; fp32 runs on CUDA's TF32 units or slower ones, as torch is set.
        """
        if self.kind == "cpu":
            return peaks.measured_cpu(DTYPES.get(precision, torch.float32))
        if self.kind == "cuda" and precision != "fp32":
            return peaks.published(torch.cuda.get_device_name(self.torch))
        return None

    def rng_state(self) -> dict[str, str]:
        """What random draws depend on, as JSON values: the process's generator, and the device's beside it."""
        state = {"torch_rng": _hex(torch.get_rng_state())}
        if self.kind == "cuda":
            state["cuda_rng"] = _hex(torch.cuda.get_rng_state(self.torch))
        if self.kind == "xla":
            state["xla_rng"] = str(_xla_model().get_rng_state())
        return state

    def restore_rng(self, state: dict[str, Any]) -> None:
        """Draw as at the time of `rng_state`; a kind of device that `state` does not know is left as it is."""
        torch.set_rng_state(_unhex(state["torch_rng"]))
        if self.kind == "cuda" and "cuda_rng" in state:
            torch.cuda.set_rng_state(_unhex(state["cuda_rng"]), self.torch)
        if self.kind == "xla" and "xla_rng" in state:
            _xla_model().set_rng_state(int(state["xla_rng"]))


CPU = Device("cpu", torch.device("cpu"))


def pick() -> Device:
    """The device of this process; of several GPUs the one that torchrun's LOCAL_RANK counts to.

    Raises:
        ConfigError: `HEADRACE_DEVICE` names no kind of device, or one that this machine has not.
    """
    kind = asked(VARIABLE, get_args(Kind), "cuda" if torch.cuda.is_available() else "cpu", "kind of device")
    if kind == "cuda":
        return Device("cuda", _own_gpu())
    if kind == "xla":
        return Device("xla", _xla_device())
    return CPU


def xla_compilations() -> int:
    """Graphs that XLA has compiled so far; a sound training loop compiles none after its second step."""
    _xla()
    import torch_xla.debug.metrics as metrics

    found = metrics.metric_data("CompileTime")
    return 0 if found is None else int(found[0])


def _peak_process_bytes() -> int:
    """Most memory this process held."""
    told = resident.peak_bytes()
    if told is not None:
        return told
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _own_gpu() -> torch.device:
    found, index = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", "0"))
    if index >= found:
        raise ConfigError(
            f"{VARIABLE}=cuda, and process {index} of this machine has no GPU: {found} are visible. "
            f"Start at most {found} processes a machine, or set {VARIABLE}=cpu."
        )
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


class XlaMesh:
    """All XLA devices of a machine, which one process drives: tensors are annotated, XLA cuts them and communicates.

    Args:
        shape: Devices along each axis, by its name.
    """

    def __init__(self, shape: dict[str, int]) -> None:
        _xla()
        import torch_xla.distributed.spmd as spmd

        self._spmd, self._shape = spmd, shape
        self._mesh = spmd.Mesh(list(range(xla_devices())), tuple(shape.values()), tuple(shape))

    def spread(self, tensor: torch.Tensor, *axes: str | None) -> torch.Tensor:
        """Cut each dimension over the axis named for it, in place; a dimension that it does not divide stays whole."""
        sizes = zip(tensor.shape, axes, strict=True)
        even = tuple(None if axis is None or size % self._shape[axis] else axis for size, axis in sizes)
        self._spmd.clear_sharding(tensor)
        self._spmd.mark_sharding(tensor, self._mesh, even)
        return tensor


def xla_sharding(tensor: torch.Tensor) -> str:
    """How a tensor is cut over XLA's devices, as XLA writes it: `{devices=[4,1]0,1,2,3}`."""
    return str(_xla()._XLAC._get_xla_sharding_spec(tensor))


def xla_devices() -> int:
    """XLA devices on this machine."""
    _xla_device()
    import torch_xla.runtime as runtime

    return int(runtime.global_runtime_device_count())


@lru_cache(1)
def _xla_device() -> torch.device:
    """The one device that stands for all of them."""
    xla = _xla()
    import torch_xla.runtime as runtime

    runtime.use_spmd()  # before any tensor is there, or those that are get copied to each device
    return cast(torch.device, xla.device())


@lru_cache(1)
def _xla() -> Any:
    try:
        import torch_xla
    except ImportError as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"{VARIABLE}=xla, and torch_xla cannot be imported beside torch {torch.__version__} ({reason}). "
            "Install headrace[xla] in an environment of its own, against constraints-xla.txt."
        ) from error
    return torch_xla


def _xla_model() -> Any:
    _xla()
    import torch_xla.core.xla_model as xla_model

    return xla_model


def _hex(state: torch.Tensor) -> str:
    return state.numpy().tobytes().hex()


def _unhex(state: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(state), dtype=torch.uint8)
