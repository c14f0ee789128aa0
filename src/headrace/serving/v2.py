"""The V2 (Open Inference) protocol over REST: text in a BYTES tensor, completions in another.

Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import headrace
from headrace.config import decode
from headrace.errors import ConfigError
from headrace.serving.engine import Engine
from headrace.serving.job import Piece, Request
from headrace.serving.options import Options, encode_prompt

INPUTS = ("text_input", "prompt")
"""Names the prompt tensor may have."""
OUTPUT = "text_output"


@dataclass(frozen=True, kw_only=True, slots=True)
class InputTensor:
    """A tensor of a request, its values in row-major order, flat or nested."""

    name: str
    shape: tuple[int, ...]
    datatype: str
    data: Any
    parameters: dict[str, Any] = field(default_factory=dict)
    """Hints of clients about encodings; JSON needs none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputRequest:
    """A tensor that the answer shall contain."""

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class InferRequest:
    """The body of `POST /v2/models/NAME/infer`."""

    inputs: tuple[InputTensor, ...]
    id: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    """The fields of `Options`."""
    outputs: tuple[OutputRequest, ...] = ()
    """Empty asks for every output."""


def parse_infer(body: Mapping[str, Any], engine: Engine) -> tuple[str, list[Request]]:
    """Decode a request into its id and one completion per element of its prompt tensor.

    Raises:
        ConfigError: Anything unknown, mistyped or of another shape than stated.
    """
    request = decode(InferRequest, body)
    wrong = next((output.name for output in request.outputs if output.name != OUTPUT), None)
    if wrong is not None:
        raise ConfigError(f"There is no output {wrong!r}. Ask for {OUTPUT!r} or leave outputs out.")
    prompts = _prompts(request)
    if not 1 <= len(prompts) <= engine.config.max_completions:
        raise ConfigError(f"{len(prompts)} prompts were sent, and 1 to {engine.config.max_completions} are taken.")
    options = decode(Options, {k: v for k, v in request.parameters.items() if v is not None}, "parameters")
    return request.id, [Request(encode_prompt(p, engine), options.samplings(engine.config)[0]) for p in prompts]


def _prompts(request: InferRequest) -> list[str]:
    """The texts of the one tensor a request must have."""
    names = [tensor.name for tensor in request.inputs]
    if len(names) != 1 or names[0] not in INPUTS:
        raise ConfigError(f"inputs={names!r} must be one tensor. Send {INPUTS[0]!r} alone.")
    tensor = request.inputs[0]
    texts = list(_flat(tensor.data))
    if tensor.datatype != "BYTES" or not all(isinstance(text, str) for text in texts):
        raise ConfigError(f"{tensor.name} of datatype {tensor.datatype!r} must be BYTES, with strings as its data.")
    if math.prod(tensor.shape) != len(texts):
        raise ConfigError(
            f"{tensor.name} has shape {list(tensor.shape)} and {len(texts)} elements. Make the shape fit the data."
        )
    return texts


def _flat(data: Any) -> Iterator[Any]:
    """The values of nested lists in row-major order."""
    if not isinstance(data, list):
        yield data
        return
    for item in data:
        yield from _flat(item)


def infer_body(engine: Engine, request_id: str, pieces: Sequence[Piece]) -> dict[str, Any]:
    """The answer: one output element per element of the input."""
    texts = [piece.text for piece in pieces]
    body: dict[str, Any] = {
        "model_name": engine.name,
        "model_version": engine.version,
        "parameters": {"checkpoint": engine.digest},
        "outputs": [{"name": OUTPUT, "datatype": "BYTES", "shape": [len(texts)], "data": texts}],
    }
    return body | ({"id": request_id} if request_id else {})


def server_metadata() -> dict[str, Any]:
    """What `GET /v2` answers."""
    return {"name": "headrace", "version": headrace.__version__, "extensions": []}


def model_metadata(engine: Engine) -> dict[str, Any]:
    """What `GET /v2/models/NAME` answers; its parameters say which weights are behind the name."""
    return {
        "name": engine.name,
        "versions": [engine.version] if engine.version else [],
        "platform": "pytorch_gptj",
        "inputs": [{"name": INPUTS[0], "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": OUTPUT, "datatype": "BYTES", "shape": [-1]}],
        "parameters": {
            "checkpoint": engine.digest,
            "mask": engine.mask,
            "context_tokens": engine.model.config.context_tokens,
        },
    }
