"""GPT-J as a directory that transformers loads, with or without the code that keeps its prompt whole.

transformers runs every GPT-J causally. A model that was trained to see its prompt whole therefore travels with a
modelling file, `modeling_prefix_gptj.py`, that transformers runs where it is given `trust_remote_code=True`.
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
from headrace.errors import ConfigError
from headrace.models.gptj import GPTJ, GPTJConfig
from headrace.models.layout import CONFIG_FILE, CONFIG_NAMES, MASK_KEY, PREFIX_NOTICE, hf_names, read_json

END_OF_TEXT = "<|endoftext|>"
REMOTE_CODE = Path(__file__).with_name("modeling_prefix_gptj.py")
"""Copied as it is; nothing here imports it."""
GENERATION = {"max_new_tokens": 5, "do_sample": True, "temperature": 1.0, "top_k": 1}
"""GPT-JT's: a few tokens, the likeliest each time, as its classification prompts want."""
CARD_FILE = "README.md"


def save_hf(
    model: GPTJ,
    directory: str | Path,
    tokenizer: str | Path | None = None,
    *,
    mask: MaskContract = "causal",
    card: str = "",
) -> None:
    """Write a directory that `AutoModelForCausalLM.from_pretrained` loads; it appears whole or not at all.

    Args:
        model: Its weights are written in the dtype they have.
        directory: A new directory, or an empty one.
        tokenizer: A `tokenizer.json` to lay beside the weights.
        mask: How the model was trained to see its prompt. Under `prefix`, the modelling file goes along, and loading
            without it names a tensor that says what is lost.
        card: Text of its model card; none is written where this is empty.

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
        _write_model(model, staging, None if tokenizer is None else Path(tokenizer), mask)
        if tokenizer is not None:
            shutil.copyfile(tokenizer, staging / TOKENIZER_FILE)
            _write_json(staging / "tokenizer_config.json", _tokenizer_config(model.config))
        if card:
            (staging / CARD_FILE).write_text(card, encoding="utf-8")
        _sync(staging)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write_model(model: GPTJ, staging: Path, tokenizer: Path | None, mask: MaskContract) -> None:
    """Weights, both configurations and, where it matters, the code that heeds the mask."""
    from safetensors.torch import save_file

    notice = {PREFIX_NOTICE: torch.zeros(1)} if mask == "prefix" else {}
    save_file(_their_weights(model) | notice, staging / MODEL_FILE, metadata={"format": "pt"})
    end_id = _end_of_text(model.config, tokenizer)
    ends = {"bos_token_id": end_id, "eos_token_id": end_id}
    dtype = str(model.embedding.weight.dtype).removeprefix("torch.")
    code = {}
    if mask == "prefix":
        shutil.copyfile(REMOTE_CODE, staging / REMOTE_CODE.name)
        code = {"auto_map": {"AutoModelForCausalLM": f"{REMOTE_CODE.stem}.GPTJForCausalLM"}}
    _write_json(staging / CONFIG_FILE, _hf_config(model.config) | ends | code | {"torch_dtype": dtype, MASK_KEY: mask})
    _write_json(staging / "generation_config.json", ends | GENERATION)


def _their_weights(model: GPTJ) -> dict[str, Tensor]:
    theirs: dict[str, Tensor] = {}
    for name, weight in model.state_dict().items():
        names = hf_names(name)
        theirs |= dict(zip(names, (part.cpu().clone() for part in weight.chunk(len(names))), strict=True))
    return theirs


def _sync(folder: Path) -> None:
    """Force what was written to disk before it gets its name."""
    for path in folder.iterdir():
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
    added = read_json(tokenizer).get("added_tokens", [])
    return next((int(token["id"]) for token in added if token["content"] == END_OF_TEXT), None)
