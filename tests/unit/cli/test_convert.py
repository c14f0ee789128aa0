import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from headrace import registry, storage, tracking
from headrace.artifacts import MODEL_FILE, EvalReport, MaskContract, Metric, Verdict
from headrace.cli.app import run_app
from headrace.evaluation.gate import write_verdict
from headrace.models.pretrained import load
from tests.serving_checkpoint import write_checkpoint

SHAPE = ("n_positions", "n_embd", "n_layer", "n_head", "n_inner", "rotary_dim", "vocab_size")
THEIRS = {"model_type", "activation_function", "layer_norm_epsilon", "bos_token_id", "eos_token_id", *SHAPE}
"""What a configuration of GPT-J says that knows nothing of masks."""


@pytest.mark.parametrize("mask", ["causal", "prefix"])
def test_a_checkpoint_exported_and_imported_again_is_the_same_model(
    mask: MaskContract, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(tmp_path / "ours", mask)
    assert run_app(["convert", "export", str(tmp_path / "ours"), str(tmp_path / "theirs")]) == 0
    said = capsys.readouterr()
    assert ("trust_remote_code=True" in said.err) == (mask == "prefix")
    assert "# theirs\n" in (tmp_path / "theirs" / "README.md").read_text()
    assert run_app(["convert", "import", str(tmp_path / "theirs"), str(tmp_path / "again")]) == 0

    before, after = load(tmp_path / "ours"), load(tmp_path / "again")
    assert after.checkpoint.facts.mask == mask
    assert after.checkpoint.digest[:12] in capsys.readouterr().out
    tokens_BT = torch.randint(0, 320, (2, 17), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(after.model(tokens_BT), before.model(tokens_BT), rtol=0, atol=0)
    assert after.tokenizer_file.read_bytes() == before.tokenizer_file.read_bytes()


def test_a_checkpoint_with_tables_of_ones_is_imported_with_the_mask_they_stood_for(tmp_path: Path) -> None:
    """As GPT-JT was published: its prompt is seen whole because `attn.bias` hides nothing."""
    write_checkpoint(tmp_path / "ours", "causal")
    for name, bias, mask in (("ones", torch.ones, "prefix"), ("triangle", lower_triangle, "causal")):
        assert run_app(["convert", "export", str(tmp_path / "ours"), str(tmp_path / name)]) == 0
        config = json.loads((tmp_path / name / "config.json").read_text())
        (tmp_path / name / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k in THEIRS}))
        weights = load_file(tmp_path / name / MODEL_FILE)
        room = (1, 1, config["n_positions"], config["n_positions"])
        tables = {f"transformer.h.{n}.attn.bias": bias(room, dtype=torch.bool) for n in range(config["n_layer"])}
        save_file(weights | tables, tmp_path / name / MODEL_FILE, metadata={"format": "pt"})
        assert run_app(["convert", "import", str(tmp_path / name), str(tmp_path / f"{name}-again")]) == 0
        assert load(tmp_path / f"{name}-again").checkpoint.facts.mask == mask


def lower_triangle(shape: tuple[int, ...], **options: Any) -> torch.Tensor:
    return torch.ones(shape, **options).tril()


def test_a_card_names_licence_data_and_what_reports_measured(tmp_path: Path) -> None:
    made = write_checkpoint(tmp_path / "ours", "prefix")
    with storage.writing(tmp_path / "report") as tree:
        metrics = {"facts/exact_match": Metric(value=0.75, stderr=0.125, n=12)}
        tree.commit(EvalReport(checkpoint=made.digest, mask="prefix", metrics=metrics))
    told = ["--report", str(tmp_path / "report"), "--licence", "mit", "--dataset", "the_pile", "--name", "tiny"]
    assert run_app(["convert", "export", str(tmp_path / "ours"), str(tmp_path / "theirs"), *told]) == 0
    card = (tmp_path / "theirs" / "README.md").read_text()
    for line in ("license: mit", "- the_pile", "# tiny", "| facts/exact_match | 0.7500 | 0.1250 | 12 |"):
        assert f"{line}\n" in card


def test_a_version_is_exported_with_the_results_it_was_promoted_on(tmp_path: Path, mlflow_store: Path) -> None:
    made = write_checkpoint(tmp_path / "ours", "causal")
    metrics = {"piqa/acc_norm": Metric(value=0.75, stderr=0.125, n=12)}
    with storage.writing(tmp_path / "report") as tree:
        tree.commit(EvalReport(checkpoint=made.digest, mask="causal", metrics=metrics))
    verdict = Verdict(passed=True, candidate=made.digest, champion=None, model="gptj", rules=())
    write_verdict(tmp_path / "verdict", verdict, {"candidate": storage.read(tmp_path / "report", EvalReport)})
    run_id = tracking.nested_run("run", "promote")
    registry.promote("gptj", str(tmp_path / "ours"), str(tmp_path / "verdict"), run_id=run_id)
    shutil.rmtree(tmp_path / "report")  # the version has its own

    def exported(name: str) -> str:
        assert run_app(["convert", "export", "gptj@champion", str(tmp_path / name)]) == 0
        return (tmp_path / name / "README.md").read_text()

    card = exported("theirs")
    for line in ("| piqa/acc_norm | 0.7500 | 0.1250 | 12 |", "| this model | 0.750 |", "| GPT-J-6B | 0.765 |"):
        assert f"{line}\n" in card
    assert "value: 0.75" in card.split("---")[1]

    (altered,) = mlflow_store.rglob(f"{run_id}/*/verdict/reports/candidate.json")
    altered.write_text(altered.read_text().replace("0.75", "0.95"))
    assert run_app(["convert", "export", "gptj@champion", str(tmp_path / "altered")]) == 1
    assert not (tmp_path / "altered").exists()
    shutil.rmtree(altered.parents[1])
    card = exported("without")
    assert "The report that models:/gptj/1 was promoted on is gone, so this card knows no results.\n" in card
    assert "0.75" not in card


def test_the_mask_can_be_told_and_a_wrong_one_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint(tmp_path / "ours", "causal")
    run_app(["convert", "export", str(tmp_path / "ours"), str(tmp_path / "theirs")])
    assert run_app(["convert", "import", str(tmp_path / "theirs"), str(tmp_path / "a"), "--mask", "prefix"]) == 0
    assert load(tmp_path / "a").checkpoint.facts.mask == "prefix"
    assert run_app(["convert", "import", str(tmp_path / "theirs"), str(tmp_path / "b"), "--mask", "full"]) == 2
    assert "--mask 'full'" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
