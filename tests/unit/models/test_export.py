"""Exported directories in transformers itself: its loader, its generation, its pipeline."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from headrace.errors import ConfigError, IntegrityError
from headrace.models.export import save_hf
from headrace.models.generation import generate
from headrace.models.gptj import GPTJ, GPTJConfig
from headrace.models.layout import PREFIX_NOTICE
from headrace.models.masks import prefix_lm

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers = pytest.importorskip("transformers")

SMALL = GPTJConfig(vocab_size=61, n_layer=3, d_model=48, n_head=3, d_ff=80, rotary_dim=6, context_tokens=32)
PROMPTS = [[5, 17, 3, 44, 9, 60, 2, 31], [8, 21, 50], [12, 40, 33, 7, 7]]


def make_model() -> GPTJ:
    """Weights large enough for every part to matter."""
    torch.manual_seed(0)
    model = GPTJ(SMALL).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.copy_(1.5 * weight.shape[-1] ** -0.5 * torch.randn_like(weight))
    return model


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A prefix model, and a cache of its own for the code that transformers copies."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    save_hf(make_model(), tmp_path / "prefix", mask="prefix")
    return tmp_path / "prefix"


def load(directory: Path, **options: Any) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(directory, **options).eval()


def random_tokens(rows: int = 2, tokens: int = 20) -> Tensor:
    return torch.randint(61, (rows, tokens), generator=torch.Generator().manual_seed(1))


def padded(prompts: list[list[int]]) -> dict[str, Tensor]:
    """Prompts in one batch, padded on the left."""
    longest = max(map(len, prompts))
    return {
        "input_ids": torch.tensor([[0] * (longest - len(ids)) + ids for ids in prompts]),
        "attention_mask": torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts]),
    }


def continued(model: Any, prompts: list[list[int]], **options: Any) -> list[list[int]]:
    """What transformers' greedy decoding adds to each prompt."""
    batch = padded(prompts)
    plain = {"do_sample": False, "max_new_tokens": 8, "eos_token_id": None, "pad_token_id": 0}
    made: list[list[int]] = model.generate(**batch, **(plain | options))[:, batch["input_ids"].shape[1] :].tolist()
    return made


def test_a_saved_directory_is_loaded_by_transformers_with_equal_logits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, tokens_BT = GPTJ(SMALL).eval(), random_tokens()
    save_hf(model, tmp_path / "ours")
    files = ["config.json", "generation_config.json", "model.safetensors"]
    assert sorted(path.name for path in (tmp_path / "ours").iterdir()) == files
    loaded, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values())
    with torch.no_grad():
        torch.testing.assert_close(loaded(tokens_BT).logits, model(tokens_BT), atol=1e-4, rtol=0)


@torch.no_grad()
def test_with_its_own_code_a_prompt_is_seen_whole(exported: Path) -> None:
    ours = generate(make_model(), PROMPTS, mask="prefix", max_new_tokens=8)
    trusted = {"trust_remote_code": True, "output_loading_info": True}
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(exported, **trusted)
    assert type(theirs.eval()) is not transformers.GPTJForCausalLM
    assert type(theirs).__name__ == "GPTJForCausalLM"  # the only one that a pipeline takes without complaint
    assert not report["unexpected_keys"]
    assert continued(theirs, PROMPTS) == ours
    assert continued(theirs, PROMPTS, use_cache=False) == ours
    assert continued(theirs, PROMPTS, num_beams=1, cache_implementation="static", disable_compile=True) == ours
    assert [continued(theirs, [ids])[0] for ids in PROMPTS] == ours
    assert continued(theirs, PROMPTS, num_beams=3) == continued(theirs, PROMPTS, num_beams=3, use_cache=False)


@torch.no_grad()
def test_without_it_the_prompt_is_causal_and_loading_says_so(exported: Path) -> None:
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(exported, output_loading_info=True)
    assert report["unexpected_keys"] == {PREFIX_NOTICE}
    assert continued(theirs.eval(), PROMPTS) == generate(make_model(), PROMPTS, mask="causal", max_new_tokens=8)
    assert continued(theirs, PROMPTS) != generate(make_model(), PROMPTS, mask="prefix", max_new_tokens=8)


@torch.no_grad()
def test_scores_after_a_prompt_are_ours(exported: Path) -> None:
    theirs, tokens_BT = load(exported, trust_remote_code=True), random_tokens()
    model = make_model()
    expected = model(tokens_BT, prefix_lm([12, 12]))
    torch.testing.assert_close(theirs(tokens_BT, prompt_tokens=12).logits, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(theirs(tokens_BT).logits, model(tokens_BT), atol=1e-4, rtol=0)


def test_an_attention_that_takes_no_mask_is_refused(exported: Path) -> None:
    theirs = load(exported, trust_remote_code=True)
    theirs.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ValueError, match="attn_implementation='eager'"):
        theirs(random_tokens(), prompt_tokens=3)


def test_the_quick_start_of_a_model_card_answers_in_five_tokens(tmp_path: Path, tokenizer_file: Path) -> None:
    save_hf(make_model(), tmp_path / "ours", tokenizer_file, mask="prefix")
    # The task is named because transformers asks the hub for it otherwise.
    pipe = transformers.pipeline("text-generation", model=str(tmp_path / "ours"))
    said = json.loads((tmp_path / "ours" / "generation_config.json").read_text())
    assert (said["max_new_tokens"], said["temperature"], said["top_k"]) == (5, 1.0, 1)
    prompt = '"the franc!" Is it positive? A:'
    answer = pipe(prompt)[0]["generated_text"]
    assert pipe(prompt)[0]["generated_text"] == answer
    ids = pipe.tokenizer(prompt)["input_ids"]
    wanted = generate(make_model(), [ids], mask="causal", max_new_tokens=5)[0]
    assert answer == prompt + pipe.tokenizer.decode(wanted, skip_special_tokens=True)


@pytest.fixture
def tokenizer_file(tmp_path: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=61, special_tokens=["<|pad|>", "<|endoftext|>"])
    tokenizer.train_from_iterator(['"the franc!" Is it positive? A: it is the currency'], trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def test_the_tokenizer_goes_along_and_transformers_reads_it(tmp_path: Path, tokenizer_file: Path) -> None:
    from tokenizers import Tokenizer

    save_hf(GPTJ(SMALL), tmp_path / "ours", tokenizer_file)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert loaded("the currency")["input_ids"] == Tokenizer.from_file(str(tokenizer_file)).encode("the currency").ids
    assert loaded.eos_token_id == 1
    assert transformers.GenerationConfig.from_pretrained(tmp_path / "ours").eos_token_id == 1
    assert transformers.AutoConfig.from_pretrained(tmp_path / "ours").eos_token_id == 1


def test_saving_leaves_nothing_behind_when_it_fails_and_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(IntegrityError, match=r"broken\.json is not JSON"):
        save_hf(GPTJ(SMALL), tmp_path / "ours", tmp_path / "broken.json")
    assert [path.name for path in tmp_path.iterdir()] == ["broken.json"]
    save_hf(GPTJ(SMALL), tmp_path / "ours")
    with pytest.raises(ConfigError, match="ours holds something already"):
        save_hf(GPTJ(SMALL), tmp_path / "ours")
    with pytest.raises(ConfigError, match=r"none\.json is not a file"):
        save_hf(GPTJ(SMALL), tmp_path / "new", tmp_path / "none.json")
