"""GPT-J to and from the directories transformers reads and writes, bit for bit, without transformers.

Only safetensors is read: nothing is unpickled, so no weights file can run code. What the two layouts
disagree on is names, and that ours keeps the query, key and value projections as one matrix.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headrace.artifacts import MODEL_FILE, TOKENIZER_FILE, MaskContract
from headrace.config import decode
from headrace.errors import ConfigError, IntegrityError, MismatchError
from headrace.models.gptj import GPTJ, GPTJConfig
from headrace.models.pretrained import check_tensors, fill, read_tensors

CONFIG_FILE = "config.json"
INDEX_FILE = "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
MASK_KEY = "headrace_mask"
END_OF_TEXT = "<|endoftext|>"
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
BUFFERS = (".attn.bias", ".attn.masked_bias", ".attn.embed_positions")
"""Tables older releases saved along with the weights; every reader makes its own."""


def load_hf(directory: str | Path) -> GPTJ:
    """Read a GPT-J that transformers saved, whole or in shards, as fp32 in evaluation mode.

    Raises:
        ConfigError: There is no such directory, or a shape that cannot be built.
        MismatchError: It holds another kind of model, or pickled weights alone.
        IntegrityError: A file is missing or damaged, or a tensor missing, unexpected or of another shape.
    """
    directory = Path(directory)
    config = _model_config(_read_config(directory), directory)
    files = _weight_files(directory)
    theirs = {name: tensor for file in files for name, tensor in read_tensors(file).items()}
    theirs = {name: tensor for name, tensor in theirs.items() if not name.endswith(BUFFERS)}
    with torch.device("meta"):
        model = GPTJ(config)
    shapes = {
        their_name: torch.Size((weight.shape[0] // len(names), *weight.shape[1:]))
        for weight, names in ((weight, hf_names(name)) for name, weight in model.state_dict().items())
        for their_name in names
    }
    check_tensors(theirs, shapes, files[0] if len(files) == 1 else directory / INDEX_FILE)
    fill(model, {name: torch.cat([theirs.pop(part) for part in hf_names(name)]) for name in model.state_dict()})
    return model.eval()


def save_hf(
    model: GPTJ, directory: str | Path, tokenizer: str | Path | None = None, *, mask: MaskContract = "causal"
) -> None:
    """Write a directory that `AutoModelForCausalLM.from_pretrained` loads; it appears whole or not at all.

    Args:
        model: Its weights are written in the dtype they have.
        directory: A new directory, or an empty one.
        tokenizer: A `tokenizer.json` to lay beside the weights.
        mask: How the model was trained to see its prompt. It is recorded in config.json, which transformers
            does not heed: it runs every GPT-J causally unless handed a 4-D mask.

    Raises:
        ConfigError: The directory holds something already, or there is no such tokenizer.
    """
    target = Path(directory)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} holds something already, which is not overwritten. Give a new directory.")
    if tokenizer is not None and not Path(tokenizer).is_file():
        raise ConfigError(f"{tokenizer} is not a file. Give the path of a {TOKENIZER_FILE}.")
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f"{target.name}.partial-", dir=target.parent))
    try:
        staging.chmod(0o755)
        _write(model, staging, None if tokenizer is None else Path(tokenizer), mask)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def mask_hf(directory: str | Path) -> MaskContract:
    """Find out how a saved GPT-J was trained to see its prompt.

    `save_hf` records it. GPT-JT said it by an `attn.bias` of ones where a causal model has a triangle,
    which transformers drops since 4.29, running the model causally.

    Raises:
        ConfigError, MismatchError, IntegrityError: As `load_hf`.
    """
    from safetensors import safe_open

    directory = Path(directory)
    config = _read_config(directory)
    if config.get(MASK_KEY) in ("causal", "prefix"):
        return "prefix" if config[MASK_KEY] == "prefix" else "causal"
    for path in _weight_files(directory):
        with safe_open(path, framework="pt") as file:
            for name in (name for name in file.keys() if name.endswith(".attn.bias")):  # noqa: SIM118
                return "prefix" if file.get_tensor(name).bool().all() else "causal"
    return "causal"


def hf_names(name: str) -> tuple[str, ...]:
    """Their names for one of our tensors: `layers.3.out.weight` is `transformer.h.3.attn.out_proj.weight`."""
    *modules, leaf = name.split(".")
    if modules[0] != "layers":
        return tuple(f"{theirs}.{leaf}" for theirs in MODULE_NAMES[modules[0]])
    _, index, module = modules
    return tuple(f"transformer.h.{index}.{theirs}.{leaf}" for theirs in MODULE_NAMES[f"layers.{module}"])


def _read_config(directory: Path) -> dict[str, Any]:
    """Read config.json and refuse what is not a GPT-J."""
    if not directory.is_dir():
        raise ConfigError(f"{directory} is not a directory. Give one that holds {CONFIG_FILE} and {MODEL_FILE}.")
    config = _read_json(directory / CONFIG_FILE)
    if config.get("model_type") != "gptj":
        raise MismatchError(
            f"{directory / CONFIG_FILE} has model_type={config.get('model_type')!r}, and only 'gptj' can be loaded. "
            "Give the directory of a GPT-J."
        )
    return config


def _model_config(values: dict[str, Any], directory: Path) -> GPTJConfig:
    """Translate their configuration; what it leaves out has the same default in both."""
    path = directory / CONFIG_FILE
    fixed = {"activation_function": "gelu_new", "tie_word_embeddings": False}
    for key, wanted in fixed.items():
        if values.get(key, wanted) != wanted:
            raise MismatchError(f"{path} has {key}={values[key]!r}, and GPT-J has {wanted!r}. Give another model.")
    shape = {ours: values[theirs] for ours, theirs in CONFIG_NAMES.items() if theirs in values}
    if shape.get("d_ff") is None:
        shape["d_ff"] = 4 * shape.get("d_model", GPTJConfig().d_model)
    return decode(GPTJConfig, shape)


def _weight_files(directory: Path) -> list[Path]:
    """Find the safetensors files: one, or the shards an index lists."""
    if (directory / MODEL_FILE).is_file():
        return [directory / MODEL_FILE]
    if (directory / INDEX_FILE).is_file():
        shards = _read_json(directory / INDEX_FILE).get("weight_map", {}).values()
        return [directory / Path(shard).name for shard in sorted(set(shards))]
    pickled = next((name for name in PICKLES if (directory / name).exists()), None)
    if pickled:
        raise MismatchError(
            f"{directory / pickled} is a pickle, which can run code when it is read, so it is not. "
            f"Save the model again with transformers' save_pretrained, which writes {MODEL_FILE}."
        )
    raise IntegrityError(f"{directory} has neither {MODEL_FILE} nor {INDEX_FILE}. Fetch or make it again.")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise IntegrityError(f"{path} is missing. Give a directory that transformers saved.") from error
    except ValueError as error:
        raise IntegrityError(f"{path} is not JSON ({error}). Fetch or make it again.") from error
    if not isinstance(values, dict):
        raise IntegrityError(f"{path} is not a JSON object. Fetch or make it again.")
    return values


def _write(model: GPTJ, staging: Path, tokenizer: Path | None, mask: MaskContract) -> None:
    """Fill the staging directory and force it to disk before it gets its name."""
    from safetensors.torch import save_file

    theirs: dict[str, Tensor] = {}
    for name, weight in model.state_dict().items():
        names = hf_names(name)
        theirs |= dict(zip(names, (part.cpu().clone() for part in weight.chunk(len(names))), strict=True))
    save_file(theirs, staging / MODEL_FILE, metadata={"format": "pt"})
    end_id = _end_of_text(model.config, tokenizer)
    ends = {"bos_token_id": end_id, "eos_token_id": end_id}
    dtype = str(model.embedding.weight.dtype).removeprefix("torch.")
    _write_json(staging / CONFIG_FILE, _hf_config(model.config) | ends | {"torch_dtype": dtype, MASK_KEY: mask})
    _write_json(staging / "generation_config.json", ends)
    if tokenizer is not None:
        shutil.copyfile(tokenizer, staging / TOKENIZER_FILE)
        _write_json(staging / "tokenizer_config.json", _tokenizer_config(model.config))
    for path in staging.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def _hf_config(config: GPTJConfig) -> dict[str, Any]:
    """Their configuration of the same shape."""
    return {
        "architectures": ["GPTJForCausalLM"],
        "model_type": "gptj",
        "activation_function": "gelu_new",
        "tie_word_embeddings": False,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        **{theirs: getattr(config, ours) for ours, theirs in CONFIG_NAMES.items()},
    }


def _tokenizer_config(config: GPTJConfig) -> dict[str, Any]:
    """What AutoTokenizer needs beside tokenizer.json."""
    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
    return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config.context_tokens, **ends}


def _end_of_text(config: GPTJConfig, tokenizer: Path | None) -> int | None:
    """Id that ends a text: the tokenizer's own, or GPT-2's last where the vocabulary reaches it."""
    if tokenizer is None:
        return 50256 if config.vocab_size > 50256 else None
    added = _read_json(tokenizer).get("added_tokens", [])
    return next((int(token["id"]) for token in added if token["content"] == END_OF_TEXT), None)
