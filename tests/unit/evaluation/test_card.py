"""Model cards as the Hub's own library reads them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from headrace import storage
from headrace.artifacts import Checkpoint, EvalReport, Metric
from headrace.errors import MismatchError
from headrace.evaluation.card import CardConfig, table, write_card
from headrace.models.gptj import GPTJ
from headrace.storage import Stored

CONFIG = CardConfig(name="tiny", licence="mit", datasets=("the_pile",), base_model="gpt-j", examples=("Q: 1+1? A:",))


@pytest.fixture
def checkpoint(tmp_path: Path, seal: Callable[..., Path]) -> Stored[Checkpoint]:
    return storage.read(seal(tmp_path / "checkpoint", "prefix", 7), Checkpoint)


def test_the_hub_reads_what_was_measured_and_how_to_ask(
    checkpoint: Stored[Checkpoint], report: Callable[..., Stored[EvalReport]]
) -> None:
    of_facts, of_more = report(checkpoint.digest, facts=[1, 0, 1]), report(checkpoint.digest, data="b", more=[0, 0])
    data = ModelCard(write_card(checkpoint, [of_facts, of_more], CONFIG)).data
    assert (data.license, data.datasets, data.base_model) == ("mit", ["the_pile"], "gpt-j")
    assert data.to_dict()["inference"]["parameters"] == {
        "max_new_tokens": 5,
        "do_sample": True,
        "temperature": 1.0,
        "top_k": 1,
    }
    assert data.to_dict()["widget"] == [{"text": "Q: 1+1? A:"}]
    results = {result.metric_name: result.metric_value for result in data.eval_results}
    assert results == {"facts/exact_match": pytest.approx(2 / 3), "more/exact_match": 0.0}


def test_shape_training_and_results_are_the_artifacts_own(
    checkpoint: Stored[Checkpoint], report: Callable[..., Stored[EvalReport]], model: GPTJ
) -> None:
    measured = report(checkpoint.digest, facts=[1, 0, 1])
    metric = measured.facts.metrics["facts/exact_match"]
    text = write_card(checkpoint, [measured], CONFIG)
    parameters = sum(weight.numel() for weight in model.parameters())
    for line in (
        f"| parameters | {parameters:,} |",
        "| attention | bidirectional over the prompt, causal after it |",
        f"| checkpoint | `{checkpoint.digest}` |",
        "| optimizer steps | 7 |",
        f"| facts/exact_match | {metric.value:.4f} | {metric.stderr:.4f} | 3 |",
        "model=DIRECTORY, trust_remote_code=True)\npipe('Q: 1+1? A:')",
    ):
        assert line in text


def test_tasks_of_the_harness_stand_beside_published_models(checkpoint: Stored[Checkpoint], tmp_path: Path) -> None:
    metrics = {name: Metric(value=0.5, stderr=0.1, n=4) for name in ("winogrande/acc", "mine/acc")}
    with storage.writing(tmp_path / "report") as tree:
        tree.commit(EvalReport(checkpoint=checkpoint.digest, mask="prefix", metrics=metrics))
    text = write_card(checkpoint, [storage.read(tmp_path / "report", EvalReport)], CONFIG)
    assert "|  | Winogrande |\n| --- | --- |\n| this model | 0.500 |\n" in text
    assert "| GPT-J-6B | 0.653 |\n" in text


def test_what_was_not_measured_is_said(tmp_path: Path, seal: Callable[..., Path]) -> None:
    causal = storage.read(seal(tmp_path / "causal", "causal"), Checkpoint)
    text = write_card(causal, [], CardConfig())
    assert "Nothing was measured." in text
    assert "GPT-J-6B" not in text
    assert "trust_remote_code" not in text
    assert not ModelCard(text).data.eval_results


def test_a_report_of_another_checkpoint_is_refused(
    checkpoint: Stored[Checkpoint], report: Callable[..., Stored[EvalReport]]
) -> None:
    with pytest.raises(MismatchError, match=f"measures checkpoint other, .* about {checkpoint.digest[:12]}"):
        write_card(checkpoint, [report("other", facts=[1, 0])], CONFIG)


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    assert table(("a", "b"), [("x|y", 1)]) == "| a | b |\n| --- | --- |\n| x\\|y | 1 |"
