"""Model cards as the Hub's own library reads them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from headrace import storage
from headrace.artifacts import Checkpoint, EvalReport
from headrace.errors import MismatchError
from headrace.evaluation.card import CardConfig, write_card
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


def test_what_was_not_measured_is_said(tmp_path: Path, seal: Callable[..., Path]) -> None:
    causal = storage.read(seal(tmp_path / "causal", "causal"), Checkpoint)
    text = write_card(causal, [], CardConfig())
    assert "Nothing was measured." in text
    assert "GPT-J-6B" not in text
    assert "trust_remote_code" not in text
    assert not ModelCard(text).data.eval_results
    assert "## Results\n\nThe report is gone.\n" in write_card(causal, [], CardConfig(), "The report is gone.")


def test_a_report_of_another_checkpoint_is_refused(
    checkpoint: Stored[Checkpoint], report: Callable[..., Stored[EvalReport]]
) -> None:
    with pytest.raises(MismatchError, match=f"measures checkpoint other, .* about {checkpoint.digest[:12]}"):
        write_card(checkpoint, [report("other", facts=[1, 0])], CONFIG)
