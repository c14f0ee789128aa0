"""GPT-J from the directories that transformers saved, bit for bit, without transformers.

Only safetensors is read: nothing is unpickled, so no weights file can run code.
"""

from pathlib import Path
from typing import Any

import torch

from headrace.artifacts import MODEL_FILE, MaskContract
from headrace.config import decode
from headrace.errors import ConfigError, IntegrityError, MismatchError
from headrace.models.gptj import GPTJ, GPTJConfig
from headrace.models.layout import (
    CONFIG_FILE,
    CONFIG_NAMES,
    INDEX_FILE,
    MASK_KEY,
    PICKLES,
    PREFIX_NOTICE,
    hf_names,
    read_json,
)
from headrace.models.pretrained import check_tensors, fill, read_tensors

NO_WEIGHTS = (".attn.bias", ".attn.masked_bias", ".attn.embed_positions", PREFIX_NOTICE)
"""Tables older releases saved along with the weights, of which every reader makes its own; and our notice."""


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
    theirs = {name: tensor for name, tensor in theirs.items() if not name.endswith(NO_WEIGHTS)}
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


def _read_config(directory: Path) -> dict[str, Any]:
    """Read config.json and refuse what is not a GPT-J."""
    if not directory.is_dir():
        raise ConfigError(f"{directory} is not a directory. Give one that holds {CONFIG_FILE} and {MODEL_FILE}.")
    config = read_json(directory / CONFIG_FILE)
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
        shards = read_json(directory / INDEX_FILE).get("weight_map", {}).values()
        return [directory / Path(shard).name for shard in sorted(set(shards))]
    pickled = next((name for name in PICKLES if (directory / name).exists()), None)
    if pickled:
        raise MismatchError(
            f"{directory / pickled} is a pickle, which can run code when it is read, so it is not. "
            f"Save the model again with transformers' save_pretrained, which writes {MODEL_FILE}."
        )
    raise IntegrityError(f"{directory} has neither {MODEL_FILE} nor {INDEX_FILE}. Fetch or make it again.")
