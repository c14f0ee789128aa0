from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from headrace.artifacts import MODEL_FILE, TOKENIZER_FILE, MaskContract
from headrace.errors import MismatchError
from headrace.models.export import save_hf
from headrace.models.imported import import_checkpoint
from headrace.models.pretrained import load
from tests.serving_checkpoint import tiny_model, tiny_tokenizer


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A tiny GPT-J as transformers saves it, with nothing said of its mask."""
    tiny_tokenizer().save(tmp_path / TOKENIZER_FILE)
    save_hf(tiny_model(), tmp_path / "theirs", tmp_path / TOKENIZER_FILE)
    config = tmp_path / "theirs" / "config.json"
    config.write_text("\n".join(line for line in config.read_text().splitlines() if "headrace_mask" not in line))
    return tmp_path / "theirs"


def test_an_imported_model_is_sealed_with_its_tokenizer_and_computes_the_same(theirs: Path, tmp_path: Path) -> None:
    manifest = import_checkpoint(theirs, tmp_path / "ours")
    loaded = load(tmp_path / "ours")
    assert loaded.checkpoint.digest == manifest.digest
    assert (manifest.facts.step, manifest.facts.loss, manifest.facts.mask) == (0, None, "causal")
    assert loaded.tokenizer_file.read_bytes() == (theirs / TOKENIZER_FILE).read_bytes()
    tokens_BT = torch.randint(0, 320, (2, 13), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(tokens_BT), tiny_model()(tokens_BT), rtol=0, atol=0)


@pytest.mark.parametrize(("told", "mask"), [(None, "prefix"), ("causal", "causal")])
def test_gptjts_way_of_saying_that_prompts_are_seen_whole_is_understood(
    theirs: Path, tmp_path: Path, told: MaskContract | None, mask: MaskContract
) -> None:
    """GPT-JT's checkpoint carries an `attn.bias` of ones; what the caller says goes before it."""
    weights = load_file(theirs / MODEL_FILE)
    weights |= {f"transformer.h.{layer}.attn.bias": torch.ones(1, 1, 96, 96, dtype=torch.bool) for layer in range(2)}
    save_file(weights, theirs / MODEL_FILE, metadata={"format": "pt"})
    assert import_checkpoint(theirs, tmp_path / "ours", told).facts.mask == mask


def test_a_model_without_its_tokenizer_is_refused(theirs: Path, tmp_path: Path) -> None:
    (theirs / TOKENIZER_FILE).unlink()
    with pytest.raises(MismatchError, match=r"has no tokenizer\.json.*Lay it there"):
        import_checkpoint(theirs, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()
