"""Checkpoints written, damaged and read again."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from headrace import storage
from headrace.artifacts import MODEL_FILE, TOKENIZER_FILE, Checkpoint, Tokenizer
from headrace.config import encode
from headrace.errors import IntegrityError, MismatchError
from headrace.models.gptj import GPTJ, GPTJConfig
from headrace.models.pretrained import load, load_weights, save_weights

SMALL = GPTJConfig(vocab_size=61, n_layer=2, d_model=32, n_head=2, d_ff=48, rotary_dim=8, context_tokens=16)
TOKENIZER = b'{"model": {}}'


def fresh(seed: int = 0) -> GPTJ:
    torch.manual_seed(seed)
    return GPTJ(SMALL)


def sealed(uri: Path, model: GPTJ, fingerprint: str = hashlib.sha256(TOKENIZER).hexdigest()) -> Path:
    facts = Checkpoint(
        step=1,
        tokens_seen=2,
        labels_seen=2,
        model=encode(model.config),
        tokenizer=fingerprint,
        mask="causal",
        config={},
        loss=1.0,
    )
    with storage.writing(uri) as tree:
        save_weights(model, tree.path / MODEL_FILE)
        (tree.path / TOKENIZER_FILE).write_bytes(TOKENIZER)
        tree.commit(facts)
    return uri


def test_a_checkpoint_comes_back_bit_for_bit_and_ready_to_evaluate(tmp_path: Path) -> None:
    model = fresh()
    pretrained = load(sealed(tmp_path / "checkpoint", model))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), pretrained.model.parameters(), strict=True))
    tokens_BT = torch.arange(16)[None]
    assert torch.equal(pretrained.model(tokens_BT), model(tokens_BT))
    assert not pretrained.model.training
    assert all(weight.requires_grad for weight in pretrained.model.parameters())
    assert pretrained.tokenizer_file.read_bytes() == TOKENIZER
    assert pretrained.checkpoint.facts.mask == "causal"


def test_equal_weights_are_equal_bytes(tmp_path: Path) -> None:
    save_weights(fresh(), tmp_path / "a")
    save_weights(fresh(), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_weights_fill_a_model_in_place_and_in_its_own_dtype(tmp_path: Path) -> None:
    saved, model = fresh(), fresh(seed=1).to(torch.bfloat16)
    before = list(model.parameters())
    save_weights(saved, tmp_path / MODEL_FILE)
    load_weights(model, tmp_path / MODEL_FILE)
    for weight, same, expected in zip(model.parameters(), before, saved.parameters(), strict=True):
        assert weight is same
        assert torch.equal(weight, expected.to(torch.bfloat16))


def test_loaded_weights_do_not_change_with_the_file_they_came_from(tmp_path: Path) -> None:
    model, expected = fresh(seed=1), fresh()
    save_weights(expected, tmp_path / MODEL_FILE)
    with torch.device("meta"):
        model = GPTJ(SMALL)
    load_weights(model, tmp_path / MODEL_FILE)
    with (tmp_path / MODEL_FILE).open("rb+") as file:
        file.write(b"\0" * (tmp_path / MODEL_FILE).stat().st_size)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))


def without_head(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight for name, weight in weights.items() if name != "head.bias"}


def with_wide_qkv(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return weights | {"layers.1.qkv.weight": torch.zeros(96, 33)}


def with_nan(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return weights | {"norm.bias": torch.full((32,), torch.nan)}


def with_one_more(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return weights | {"layers.2.norm.bias": torch.zeros(32)}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_head, r"model\.safetensors has no tensor 'head\.bias'"),
        (with_wide_qkv, r"'layers\.1\.qkv\.weight' of shape \(96, 33\), and the model's is \(96, 32\)"),
        (with_nan, r"NaN or infinity in 'norm\.bias'"),
        (with_one_more, r"'layers\.2\.norm\.bias', which the model has no place for"),
    ],
)
def test_weights_that_are_not_the_models_are_refused_by_file_and_tensor(
    tmp_path: Path, damage: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str
) -> None:
    path = tmp_path / MODEL_FILE
    save_weights(fresh(), path)
    save_file(damage(load_file(path)), path)
    with pytest.raises(IntegrityError, match=message):
        load_weights(fresh(), path)


def test_a_missing_or_short_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / MODEL_FILE
    with pytest.raises(IntegrityError, match=r"model\.safetensors is missing"):
        load_weights(fresh(), path)
    save_weights(fresh(), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(IntegrityError, match=r"model\.safetensors is not whole safetensors"):
        load_weights(fresh(), path)


def test_a_flipped_byte_in_a_sealed_checkpoint_is_found(tmp_path: Path) -> None:
    uri = sealed(tmp_path / "checkpoint", fresh())
    content = bytearray((uri / MODEL_FILE).read_bytes())
    content[-1] ^= 1
    (uri / MODEL_FILE).write_bytes(content)
    with pytest.raises(IntegrityError, match=r"model\.safetensors is altered"):
        load(uri)


def test_a_checkpoint_with_another_tokenizer_than_it_was_trained_with_is_refused(tmp_path: Path) -> None:
    uri = sealed(tmp_path / "checkpoint", fresh(), fingerprint="0" * 64)
    with pytest.raises(IntegrityError, match=r"tokenizer\.json is not the tokenizer .*\(000000000000\)"):
        load(uri)


def test_a_checkpoint_without_weights_and_an_artifact_that_is_none_are_refused(tmp_path: Path) -> None:
    facts = storage.read(sealed(tmp_path / "whole", fresh()), Checkpoint).facts
    with storage.writing(tmp_path / "empty") as tree:
        tree.commit(facts)
    with pytest.raises(IntegrityError, match=r"has no model\.safetensors"):
        load(tmp_path / "empty")
    with storage.writing(tmp_path / "tokenizer") as tree:
        tree.commit(Tokenizer(vocabulary=1, fingerprint="0"))
    with pytest.raises(MismatchError, match=r"is of kind tokenizer, and checkpoint is wanted"):
        load(tmp_path / "tokenizer")
