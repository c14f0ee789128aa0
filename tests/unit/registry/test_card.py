from pathlib import Path

from headrace import registry, storage, tracking
from headrace.artifacts import Rule, Verdict
from headrace.registry import card
from tests.candidates import Candidates


def test_a_version_carries_a_card_of_what_it_is_where_it_comes_from_and_on_what_evidence(
    candidates: Candidates,
) -> None:
    verdict = candidates.verdict(1)
    promoted = candidates.promote(1, verdict)
    made = tracking.client().get_model_version("gptj", "1")
    text = made.description
    for said in (
        f"Checkpoint `{promoted.checkpoint}`, step 1.",
        "each token sees those before it",
        '- parents: `{"shards_text": "1111',
        "- pipeline_run: `run-1`",
        "## Results\n\n| metric | value | standard error | n |\n| --- | --- | --- | --- |\n"
        "| piqa/acc_norm | 0.7654 | 0.0100 | 100 |\n",
        "| this model | 0.765 |\n",
        "| GPT-J-6B | 0.765 |\n",
        f"Verdict `{storage.read(verdict, Verdict).digest}`, held against no champion, the first.",
        "- ✓ **beats champion**: 0.87 beats 0.52.",
    ):
        assert said in text
    place = tracking.client().download_artifacts(made.run_id, card.CARD_FILE)
    assert Path(place).read_text() == text
    candidates.promote(2)
    now = registry.champion("gptj")
    assert now is not None
    assert f"champion `{promoted.checkpoint}`" in tracking.client().get_model_version("gptj", "2").description


def test_a_card_too_long_for_a_description_is_cut_there_and_whole_in_the_run(candidates: Candidates) -> None:
    rules = tuple(Rule(name=f"rule {n}", passed=True, reason="because it is so " * 9) for n in range(99))
    candidates.promote(1, candidates.verdict(1, rules=rules))
    made = tracking.client().get_model_version("gptj", "1")
    assert 4000 < len(made.description) <= 5000
    assert made.description.endswith(f"\n… the whole of it is {card.CARD_FILE} in the run.\n")
    assert "rule 98" in Path(tracking.client().download_artifacts(made.run_id, card.CARD_FILE)).read_text()
