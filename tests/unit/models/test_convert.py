"""Conversion against transformers itself: its logits, its loader, its files."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from headrace.errors import ConfigError, HeadraceError, IntegrityError, MismatchError
from headrace.models.convert import load_hf, mask_hf
from headrace.models.export import save_hf
from headrace.models.gptj import GPTJConfig
from headrace.models.masks import causal, packed_prefix_lm, prefix_lm

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers = pytest.importorskip("transformers")

SMALL = GPTJConfig(vocab_size=61, n_layer=3, d_model=48, n_head=3, d_ff=80, rotary_dim=6, context_tokens=32)


def theirs(seed: int = 0, **changes: Any) -> Any:
    """A GPT-J of transformers with weights large enough for every part to matter."""
    torch.manual_seed(seed)
    shape: dict[str, Any] = {"vocab_size": 61, "n_positions": 32, "n_embd": 48, "n_layer": 3, "n_head": 3}
    shape |= {"rotary_dim": 6, "n_inner": 80, "bos_token_id": 0, "eos_token_id": 0, "attn_implementation": "eager"}
    model = transformers.GPTJForCausalLM(transformers.GPTJConfig(**(shape | changes))).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            scale = 0.1 if weight.dim() == 1 else 1.5 * weight.shape[-1] ** -0.5
            weight.copy_(scale * torch.randn_like(weight) + (1 if ".ln_" in name and "weight" in name else 0))
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    theirs().save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


def random_tokens(rows: int = 2, tokens: int = 20) -> Tensor:
    return torch.randint(61, (rows, tokens), generator=torch.Generator().manual_seed(1))


def additive(seen_B1TT: Tensor) -> Tensor:
    return torch.zeros(seen_B1TT.shape).masked_fill(~seen_B1TT, torch.finfo(torch.float32).min)


@torch.no_grad()
def logits_of(model: Any, tokens_BT: Tensor, seen_B1TT: Tensor | None = None) -> Tensor:
    mask = None if seen_B1TT is None else additive(seen_B1TT)
    logits: Tensor = model(tokens_BT, attention_mask=mask).logits
    return logits


@torch.no_grad()
def test_causal_logits_are_those_of_transformers(saved: Path) -> None:
    tokens_BT = random_tokens()
    expected = logits_of(theirs(), tokens_BT)
    torch.testing.assert_close(load_hf(saved)(tokens_BT, causal()), expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_prefix_logits_are_those_of_transformers_under_a_4d_mask(saved: Path) -> None:
    tokens_BT, lengths = random_tokens(), (7, 12)
    seen_B1TT = torch.ones(2, 1, 20, 20, dtype=torch.bool).tril()
    for row, length in enumerate(lengths):
        seen_B1TT[row, :, :, :length] = True
    expected = logits_of(theirs(), tokens_BT, seen_B1TT)
    # Were the 4-D mask ignored, both would be causal and agree without meaning anything.
    assert (expected - logits_of(theirs(), tokens_BT)).abs().max() > 0.05
    torch.testing.assert_close(load_hf(saved)(tokens_BT, prefix_lm(lengths)), expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_packed_logits_are_those_of_transformers_on_each_document_alone(saved: Path) -> None:
    tokens_BT = random_tokens(1, 20)
    segments_BT, prefix_BT = torch.tensor([[1] * 8 + [2] * 12]), torch.zeros(1, 20, dtype=torch.bool)
    prefix_BT[0, 8:13] = True
    packed = load_hf(saved)(tokens_BT, packed_prefix_lm(segments_BT, prefix_BT))
    first = logits_of(theirs(), tokens_BT[:, :8])
    seen_B1TT = torch.ones(1, 1, 12, 12, dtype=torch.bool).tril()
    seen_B1TT[..., :5] = True
    second = logits_of(theirs(), tokens_BT[:, 8:], seen_B1TT)
    torch.testing.assert_close(packed, torch.cat([first, second], dim=1), atol=1e-4, rtol=0)


def test_there_and_back_again_every_bit_is_the_same(saved: Path, tmp_path: Path) -> None:
    save_hf(load_hf(saved), tmp_path / "back")
    before, after = load_file(saved / "model.safetensors"), load_file(tmp_path / "back" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    ours, again = load_hf(saved), load_hf(tmp_path / "back")
    assert ours.config == again.config == SMALL
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), again.parameters(), strict=True))


def test_shards_are_read_as_one(saved: Path, tmp_path: Path) -> None:
    theirs().save_pretrained(tmp_path / "sharded", max_shard_size="50KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    whole, sharded = load_hf(saved), load_hf(tmp_path / "sharded")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), sharded.parameters(), strict=True))


def test_a_feed_forward_of_unsaid_width_is_four_times_the_model(tmp_path: Path) -> None:
    theirs(n_inner=None).save_pretrained(tmp_path / "theirs")
    assert load_hf(tmp_path / "theirs").config.d_ff == 4 * 48


def test_half_precision_weights_widen_without_loss(tmp_path: Path) -> None:
    half = theirs().to(torch.bfloat16)
    half.save_pretrained(tmp_path / "half")
    model = load_hf(tmp_path / "half")
    assert model.embedding.weight.dtype == torch.float32
    assert torch.equal(model.embedding.weight, half.transformer.wte.weight.float())


def with_buffers(directory: Path, bias: Tensor) -> None:
    """Add the tables older releases saved, the bias in every layer."""
    weights = load_file(directory / "model.safetensors")
    for layer in range(3):
        weights[f"transformer.h.{layer}.attn.bias"] = bias.clone()
        weights[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e9)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


def test_tables_of_older_releases_are_passed_over(saved: Path) -> None:
    plain = load_hf(saved)
    with_buffers(saved, torch.ones(1, 1, 32, 32).tril())
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), load_hf(saved).parameters(), strict=True))


def test_how_a_model_sees_its_prompt_survives_conversion(saved: Path, tmp_path: Path) -> None:
    assert mask_hf(saved) == "causal"
    with_buffers(saved, torch.ones(1, 1, 32, 32, dtype=torch.bool).tril())
    assert mask_hf(saved) == "causal"
    with_buffers(saved, torch.ones(1, 1, 32, 32, dtype=torch.bool))
    assert mask_hf(saved) == "prefix"
    for mask in ("prefix", "causal"):
        save_hf(load_hf(saved), tmp_path / mask, mask=mask)
        assert mask_hf(tmp_path / mask) == mask


def change_config(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model_type": "gpt2"}, MismatchError, r"model_type='gpt2', and only 'gptj'"),
        ({"activation_function": "relu"}, MismatchError, "activation_function='relu', and GPT-J has 'gelu_new'"),
        ({"tie_word_embeddings": True}, MismatchError, "tie_word_embeddings=True"),
        ({"n_head": 5}, ConfigError, "d_model=48 does not split into n_head=5"),
        ({"rotary_dim": 18}, ConfigError, "rotary_dim=18"),
        ({"rotary_dim": None}, ConfigError, "rotary_dim=None is NoneType, not int"),
        ({"n_layer": 4}, IntegrityError, r"model\.safetensors has no tensor 'transformer\.h\.3\.ln_1\.weight'"),
        ({"n_layer": 2}, IntegrityError, r"'transformer\.h\.2\..*' *, which the model has no place for"),
        ({"vocab_size": 60}, IntegrityError, r"'transformer\.wte\.weight' of shape \(61, 48\), .* is \(60, 48\)"),
    ],
)
def test_a_configuration_that_is_not_the_weights_own_is_refused(
    saved: Path, changes: dict[str, Any], error: type[HeadraceError], message: str
) -> None:
    change_config(saved, **changes)
    with pytest.raises(error, match=message):
        load_hf(saved)


def test_a_projection_of_another_shape_is_refused_by_its_own_name(saved: Path) -> None:
    path = saved / "model.safetensors"
    save_file(load_file(path) | {"transformer.h.1.attn.k_proj.weight": torch.zeros(47, 48)}, path)
    with pytest.raises(IntegrityError, match=r"'transformer\.h\.1\.attn\.k_proj\.weight' of shape \(47, 48\)"):
        load_hf(saved)


def test_pickled_weights_are_not_read_and_the_way_out_is_named(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(IntegrityError, match=r"has neither model\.safetensors nor"):
        load_hf(saved)
    (saved / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(MismatchError, match=r"pytorch_model\.bin is a pickle.*save_pretrained"):
        load_hf(saved)


def test_what_is_missing_is_named(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere is not a directory"):
        load_hf(tmp_path / "nowhere")
    theirs().save_pretrained(tmp_path / "sharded", max_shard_size="50KB")
    shard = sorted((tmp_path / "sharded").glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(IntegrityError, match=rf"{shard.name} is missing"):
        load_hf(tmp_path / "sharded")
    (saved / "config.json").unlink()
    with pytest.raises(IntegrityError, match=r"config\.json is missing"):
        load_hf(saved)
