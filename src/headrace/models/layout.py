"""What transformers calls the parts of a GPT-J, and the files of a directory that it saved.

The layouts disagree on names, and in that ours keeps the query, key and value projections as one matrix.
"""

import json
from pathlib import Path
from typing import Any

from headrace.errors import IntegrityError

CONFIG_FILE = "config.json"
INDEX_FILE = "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
MASK_KEY = "headrace_mask"
PREFIX_NOTICE = (
    "headrace: loaded without trust_remote_code=True, this model reads its prompt from left to right and answers worse"
)
"""Name of a tensor of nothing beside weights trained with a prefix mask. transformers' own GPT-J, which would run them
causally, lists it among those it has no place for: the one way for a directory to warn whoever loads it."""
CONFIG_NAMES = {
    "vocab_size": "vocab_size",
    "n_layer": "n_layer",
    "d_model": "n_embd",
    "n_head": "n_head",
    "d_ff": "n_inner",
    "rotary_dim": "rotary_dim",
    "context_tokens": "n_positions",
    "norm_eps": "layer_norm_epsilon",
}
MODULE_NAMES = {
    "embedding": ("transformer.wte",),
    "norm": ("transformer.ln_f",),
    "head": ("lm_head",),
    "layers.norm": ("ln_1",),
    "layers.qkv": ("attn.q_proj", "attn.k_proj", "attn.v_proj"),
    "layers.out": ("attn.out_proj",),
    "layers.ff_in": ("mlp.fc_in",),
    "layers.ff_out": ("mlp.fc_out",),
}
"""Our modules by theirs; where there are several, ours holds their rows one after another."""


def hf_names(name: str) -> tuple[str, ...]:
    """Their names for one of our tensors: `layers.3.out.weight` is `transformer.h.3.attn.out_proj.weight`."""
    *modules, leaf = name.split(".")
    if modules[0] != "layers":
        return tuple(f"{theirs}.{leaf}" for theirs in MODULE_NAMES[modules[0]])
    _, index, module = modules
    return tuple(f"transformer.h.{index}.{theirs}.{leaf}" for theirs in MODULE_NAMES[f"layers.{module}"])


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        IntegrityError: There is none, or it is no JSON object.
    """
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise IntegrityError(f"{path} is missing. Give a directory that transformers saved.") from error
    except ValueError as error:
        raise IntegrityError(f"{path} is not JSON ({error}). Fetch or make it again.") from error
    if not isinstance(values, dict):
        raise IntegrityError(f"{path} is not a JSON object. Fetch or make it again.")
    return values
