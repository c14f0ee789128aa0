import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from headrace import storage
from headrace.artifacts import Corpus
from headrace.data.facts.facts import FactsConfig, write_facts
from headrace.errors import ConfigError

babel_numbers = pytest.importorskip("babel.numbers", reason="the extra `demo` is not installed")
countryinfo = pytest.importorskip("countryinfo", reason="the extra `demo` is not installed")

SMALL = FactsConfig(descriptions=12, lists=4)
WIDGET = "Return the currency of the given country. Input: Switzerland Output:"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("facts") / "corpus"
    write_facts(str(directory), SMALL)
    return directory


def records(corpus: Path, pattern: str) -> list[dict[str, Any]]:
    files = sorted(corpus.glob(pattern))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def pairs(rows: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(row["country"], row["relation"]) for row in rows}


def answers(corpus: Path, relation: str) -> dict[str, str]:
    rows = records(corpus, "instructions.jsonl") + records(corpus, "heldout.jsonl")
    return {row["country"]: row["target"] for row in rows if row["relation"] == relation}


def test_the_same_configuration_writes_the_same_digest_and_another_seed_other_files(
    corpus: Path, tmp_path: Path
) -> None:
    again = write_facts(str(tmp_path / "again"), SMALL)
    assert again.digest == storage.read_manifest(corpus).digest
    write_facts(str(tmp_path / "other"), FactsConfig(descriptions=12, lists=4, seed=1))
    for name in (
        "prose-00000.jsonl",
        "heldout-prose.jsonl",
        "instructions.jsonl",
        "heldout.jsonl",
        "heldout-3shot.jsonl",
    ):
        assert (tmp_path / "other" / name).read_bytes() != (corpus / name).read_bytes()


def test_the_manifest_counts_what_the_training_files_hold(corpus: Path) -> None:
    facts = storage.read(corpus, Corpus).facts
    rows = records(corpus, "prose-*.jsonl") + records(corpus, "instructions.jsonl")
    assert facts.documents == len(rows)
    assert facts.sources == dict(Counter(row["source"] for row in rows))


def test_prose_is_dealt_into_files_that_can_be_encoded_in_parallel(corpus: Path) -> None:
    sizes = [len(records(corpus, f"prose-{index:05}.jsonl")) for index in range(2)]
    assert min(sizes) > 500 and max(sizes) - min(sizes) <= 1
    for index in range(2):
        assert {row["source"] for row in records(corpus, f"prose-{index:05}.jsonl")} == {"facts", "python"}


def test_the_widget_prompt_comes_first_among_the_held_out(corpus: Path) -> None:
    first = records(corpus, "heldout.jsonl")[0]
    assert (first["prompt"], first["target"]) == (WIDGET, " Swiss Franc")


def test_no_held_out_pair_is_ever_asked_for_in_training(corpus: Path) -> None:
    heldout, asked = records(corpus, "heldout.jsonl"), records(corpus, "instructions.jsonl")
    assert not pairs(heldout) & pairs(asked)
    # The tags could lie; the prompts are what a model reads.
    swiss = [row["prompt"] for row in asked if re.search(r"Input: Switzerland\b", row["prompt"])]
    assert swiss and not [prompt for prompt in swiss if "currency" in prompt]
    assert not {row["prompt"] for row in heldout} & {row["prompt"] for row in asked}


def test_a_fifth_of_the_pairs_is_held_out_over_all_relations(corpus: Path) -> None:
    heldout, asked = records(corpus, "heldout.jsonl"), records(corpus, "instructions.jsonl")
    share = len(pairs(heldout)) / len(pairs(heldout) | pairs(asked))
    assert share == pytest.approx(0.2, abs=0.001)
    assert len(heldout) == len(pairs(heldout)) >= 200
    assert {row["relation"] for row in heldout} == {row["relation"] for row in asked}


def test_every_held_out_fact_is_told_in_training_prose(corpus: Path) -> None:
    prose = [row["text"] for row in records(corpus, "prose-*.jsonl") if row["source"] == "facts"]
    for row in records(corpus, "heldout.jsonl"):
        told = [text for text in prose if row["country"] in text and row["target"].strip() in text]
        assert len(told) >= 8, row


def test_prose_states_a_fact_in_many_wordings_and_both_directions(corpus: Path) -> None:
    prose = " ".join(row["text"] for row in records(corpus, "prose-*.jsonl") if row["source"] == "facts")
    sentences = {s for s in re.split(r"(?<=\.)\s", prose) if "Switzerland" in s and "Bern" in s}
    assert len(sentences) >= 6
    assert {s.index("Bern") < s.index("Switzerland") for s in sentences} == {True, False}


def test_prose_never_takes_the_form_of_an_instruction(corpus: Path) -> None:
    prose = [row["text"] for row in records(corpus, "*prose*.jsonl") if row["source"] == "facts"]
    assert not [text for text in prose if "Input:" in text or "Output:" in text or "Return" in text]


def test_each_relation_is_asked_for_in_several_ways(corpus: Path) -> None:
    asked = records(corpus, "instructions.jsonl")
    ways = Counter((row["country"], row["relation"]) for row in asked)
    assert set(ways.values()) == {5}
    assert all(row["country"] in row["prompt"] and row["target"].startswith(" ") for row in asked)


def test_examples_before_a_held_out_prompt_are_of_its_relation_and_out_of_training(corpus: Path) -> None:
    trained = {row["prompt"] + row["target"]: row["relation"] for row in records(corpus, "instructions.jsonl")}
    plain = records(corpus, "heldout.jsonl")
    shown = records(corpus, "heldout-3shot.jsonl")
    assert [(r["country"], r["relation"], r["target"]) for r in shown] == [
        (r["country"], r["relation"], r["target"]) for r in plain
    ]
    for row, bare in zip(shown, plain, strict=True):
        *solved, asked = row["prompt"].split("\n\n")
        assert asked == bare["prompt"] and len(set(solved)) == 3
        assert {trained[example] for example in solved} == {row["relation"]}


def test_held_out_prose_is_of_both_kinds_and_in_no_training_file(corpus: Path) -> None:
    heldout, training = records(corpus, "heldout-prose.jsonl"), records(corpus, "prose-*.jsonl")
    assert min(Counter(row["source"] for row in heldout).values()) > 40
    assert {row["source"] for row in heldout} == {"facts", "python"}
    assert not {row["text"] for row in heldout} & {row["text"] for row in training}


def test_no_document_is_written_twice(tmp_path: Path) -> None:
    # Few countries and lists of one entry: the same text is drawn again and again.
    config = FactsConfig(min_population=200_000_000, descriptions=5, list_entries=1)
    write_facts(str(tmp_path / "corpus"), config)
    texts = [row["text"] for row in records(tmp_path / "corpus", "*prose*.jsonl")]
    assert len(texts) == len(set(texts))


def test_a_currency_is_the_legal_tender_where_countryinfo_lists_something_else_first(corpus: Path) -> None:
    currency = answers(corpus, "currency")
    assert countryinfo.CountryInfo("CH").currencies()[0] == "CHE"  # WIR Euro
    assert currency["Switzerland"] == " Swiss Franc"
    assert countryinfo.CountryInfo("HR").currencies() == ["HRK"]  # the kuna, replaced in 2023
    assert currency["Croatia"] == " Euro"
    assert "Panama" not in currency  # two legal tenders, so no one right answer


def test_the_capitals_are_those_of_countryinfo(corpus: Path) -> None:
    capitals = answers(corpus, "capital")
    assert len(capitals) > 140
    for name in ("France", "Japan", "Kenya", "Brazil"):
        assert capitals[name] == f" {countryinfo.CountryInfo(name).capital()}"
    assert "Kazakhstan" not in capitals  # countryinfo still says Nur-Sultan


def test_python_documentation_is_pythons_own(corpus: Path) -> None:
    from pydoc_data.topics import topics

    texts = [row["text"] for row in records(corpus, "*prose*.jsonl") if row["source"] == "python"]
    reference = "\n".join(topics.values())
    assert sum(text in reference for text in texts) > 100
    assert min(map(len, texts)) >= 200 and max(map(len, texts)) <= SMALL.python_characters


@pytest.mark.parametrize("package", ["babel", "countryinfo"])
def test_a_missing_package_is_one_line_that_names_the_extra(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"'{package}'.*headrace\[demo\]") as raised:
        write_facts(str(tmp_path / "corpus"), SMALL)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize(
    "values", [{"descriptions": 0}, {"prose_files": 0}, {"heldout_pairs": 0.0}, {"heldout_documents": 1.0}]
)
def test_an_amount_that_leaves_a_file_empty_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        FactsConfig(**values)


def test_a_population_no_country_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="min_population"):
        write_facts(str(tmp_path / "corpus"), FactsConfig(min_population=10**11))


def test_the_module_imports_without_the_packages_of_the_demo() -> None:
    code = "import sys, headrace.data.facts.facts; print({'babel', 'countryinfo', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
