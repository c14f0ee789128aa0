"""Weights at rest: safetensors, fp32, read only where every tensor is the one the model expects."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from headrace import storage
from headrace.artifacts import MODEL_FILE, TOKENIZER_FILE, Checkpoint
from headrace.config import decode
from headrace.errors import IntegrityError
from headrace.models.gptj import GPTJ, GPTJConfig
from headrace.storage import Stored


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A model as its checkpoint left it, and that checkpoint."""

    model: GPTJ
    """In evaluation mode, fp32."""
    checkpoint: Stored[Checkpoint]

    @property
    def path(self) -> Path:
        """Local directory of the checkpoint's files."""
        return self.checkpoint.path

    @property
    def tokenizer_file(self) -> Path:
        """The tokenizer whose ids the model speaks."""
        return self.path / TOKENIZER_FILE


def load(uri: str | Path, device: torch.device | str = "cpu") -> Pretrained:
    """Open a sealed checkpoint, local or `gs://`, and build its model on `device`.

    Raises:
        IntegrityError: Nothing is there, a file is missing, short or altered, or not what its manifest promises.
        MismatchError: It is an artifact of another kind.
        ConfigError: Its model has a shape this release cannot build.
    """
    stored = storage.read(uri, Checkpoint)
    for name in (MODEL_FILE, TOKENIZER_FILE):
        if name not in stored.manifest.files:
            raise IntegrityError(f"{uri} has no {name}, which every checkpoint has. Run the step that makes it again.")
    if stored.manifest.files[TOKENIZER_FILE].sha256 != stored.facts.tokenizer:
        raise IntegrityError(
            f"{stored.path / TOKENIZER_FILE} is not the tokenizer the checkpoint was trained with "
            f"({stored.facts.tokenizer[:12]}). Run the step that makes it again."
        )
    with torch.device("meta"):
        model = GPTJ(decode(GPTJConfig, stored.facts.model))
    load_weights(model, stored.path / MODEL_FILE)
    return Pretrained(model.to(device).eval(), stored)


def save_weights(model: nn.Module, path: Path) -> None:
    """Write every parameter as fp32 safetensors; equal weights are equal bytes."""
    from safetensors.torch import save_file

    weights = {name: weight.detach().float().cpu().contiguous() for name, weight in model.state_dict().items()}
    save_file(weights, path, metadata={"format": "pt"})


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill a model from what `save_weights` wrote, on the device and in the dtype it has.

    A model on the meta device is brought to the CPU in fp32, which makes its random initialisation free.

    Raises:
        IntegrityError: No safetensors file, or a tensor missing, unexpected, of another shape or not finite.
    """
    weights = read_tensors(path)
    check_tensors(weights, {name: weight.shape for name, weight in model.state_dict().items()}, path)
    fill(model, weights)


def fill(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy tensors known to fit into a model; one on the meta device takes them over as fp32."""
    if any(weight.is_meta for weight in model.parameters()):
        model.load_state_dict({name: weight.float() for name, weight in weights.items()}, assign=True)
    else:
        model.load_state_dict(weights)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file into memory of their own.

    Raises:
        IntegrityError: The file is missing, cut short, or not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise IntegrityError(f"{path} is missing. Run the step that makes it, or give another directory.")
    try:
        with safe_open(path, framework="pt") as file:
            # Cloned, for what is read is a window onto the file, and a file may be replaced.
            return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise IntegrityError(f"{path} is not whole safetensors ({error}). Fetch or make it again.") from error


def check_tensors(weights: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], path: Path) -> None:
    """Compare tensors with the names and shapes expected of the file they came from.

    Raises:
        IntegrityError: One is missing, unexpected, of another shape, or holds NaN or infinity; it is named.
    """
    remedy = "Give the weights of this model, or its own configuration."
    for name, shape in shapes.items():
        if name not in weights:
            raise IntegrityError(f"{path} has no tensor {name!r}, which the model needs. {remedy}")
        if weights[name].shape != shape:
            found = tuple(weights[name].shape)
            raise IntegrityError(f"{path} has {name!r} of shape {found}, and the model's is {tuple(shape)}. {remedy}")
        if not weights[name].isfinite().all():
            raise IntegrityError(f"{path} has NaN or infinity in {name!r}. Use an earlier checkpoint.")
    for name in weights:
        if name not in shapes:
            raise IntegrityError(f"{path} has a tensor {name!r}, which the model has no place for. {remedy}")
