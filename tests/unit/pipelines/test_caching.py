import dataclasses
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from headrace import storage
from headrace.artifacts import Checkpoint, Corpus, ModelVersion, Verdict
from headrace.data.corpus import CorpusConfig, gather_corpus
from headrace.errors import IntegrityError
from pipelines.caching import VerifiedCache, confirm

CHECKPOINT = Checkpoint(
    step=1, tokens_seen=1, labels_seen=1, model={}, tokenizer="t", mask="causal", config={}, loss=None
)


def artifact(path: Path, text: str = "words", **metadata: str) -> dsl.Dataset:
    """A sealed corpus of one file as KFP holds it."""
    with storage.writing(path) as tree:
        (tree.path / "words.txt").write_text(text)
        manifest = tree.commit(Corpus(documents=1, sources={"words": 1}))
    return dsl.Dataset(name="corpus", uri=str(path), metadata={"digest": manifest.digest, **metadata})


class Told(VerifiedCache):
    """A cache that keeps what it was asked to tell."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.hits: list[dict[str, Any]] = []
        self.drops: list[str] = []
        self.on_hit = self.hits.append
        self.on_drop = self.drops.append


def key(cache: VerifiedCache, arguments: Any, name: str = "tokenize") -> str:
    return cache.compute_key(name, "image", ["run"], arguments, env_vars={}, custom_cache_key=None)


def test_a_key_follows_what_the_inputs_hold_and_not_where_they_lie(tmp_path: Path) -> None:
    cache = VerifiedCache(str(tmp_path / "cache"))
    one, same = artifact(tmp_path / "one"), artifact(tmp_path / "elsewhere" / "one")
    other = artifact(tmp_path / "other", "other words")
    for wrap in (lambda a: {"corpus": a}, lambda a: {"pieces": [a, one]}):
        assert key(cache, wrap(one)) == key(cache, wrap(same)) != key(cache, wrap(other))
    assert key(cache, {"corpus": one}) != key(cache, {"corpus": one}, "combine")
    assert key(cache, {"corpus": one, "config": {"a": 1}}) != key(cache, {"corpus": one, "config": {"a": 2}})


def test_a_key_follows_what_a_step_before_has_noted_about_its_output(tmp_path: Path) -> None:
    """The same file encoded as text and as instructions has the same shards, and joins another split."""
    cache = VerifiedCache(str(tmp_path / "cache"))
    text, instructions = (artifact(tmp_path / split, split=split) for split in ("text", "instructions"))
    assert text.metadata["digest"] == instructions.metadata["digest"]
    assert key(cache, {"pieces": [text]}) != key(cache, {"pieces": [instructions]})


@pytest.mark.parametrize("kind", [dsl.HTML, dsl.Markdown])
def test_a_page_answers_while_its_bytes_are_as_they_were_and_numbers_are_metadata(tmp_path: Path, kind: Any) -> None:
    cache = Told(tmp_path / "cache")
    for name in ("page", "numbers"):
        (tmp_path / name).write_text("<p>one</p>")
    page = kind(uri=str(tmp_path / "page"), metadata={"sha256": storage.hash_file(tmp_path / "page")})
    numbers = dsl.Metrics(uri=str(tmp_path / "numbers"), metadata={"tokens": 3.0})
    cache.put("k", {"page": page, "numbers": numbers})
    assert cache.get("k") is not None
    (tmp_path / "page").write_text("<p>two</p>")
    assert cache.get("k") is None
    assert "page is missing or altered" in cache.drops[-1]


def test_an_entry_answers_only_while_every_byte_of_it_is_as_it_was(tmp_path: Path) -> None:
    cache = Told(tmp_path / "cache")
    made = artifact(tmp_path / "made")
    cache.put("k", {"corpus": made, "Output": ["a"]})
    answered = cache.get("k")
    assert answered is not None
    assert (answered["corpus"].uri, answered["Output"]) == (made.uri, ["a"])
    assert (len(cache.hits), cache.drops) == (1, [])

    (tmp_path / "made" / "words.txt").write_text("wards")
    assert cache.get("k") is None
    assert "words.txt is altered" in cache.drops[0]
    assert cache.get("unknown") is None
    assert (len(cache.hits), len(cache.drops)) == (1, 1)


def test_an_artifact_replaced_by_a_sound_one_is_another(tmp_path: Path) -> None:
    made = artifact(tmp_path / "made")
    confirm(made)
    artifact(tmp_path / "made", "other words")
    with pytest.raises(IntegrityError, match="was replaced by another artifact"):
        confirm(made)


def test_a_corpus_answers_only_while_the_files_it_refers_to_are_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    manifest = gather_corpus(CorpusConfig(files={"text": str(tmp_path / "a.jsonl")}), tmp_path / "corpus")
    made = dsl.Dataset(uri=str(tmp_path / "corpus"), metadata={"digest": manifest.digest})
    confirm(made)
    (tmp_path / "a.jsonl").write_text('{"text": "b"}\n')
    with pytest.raises(IntegrityError, match=r"a\.jsonl changed"):
        confirm(made)


def test_a_fetched_checkpoint_answers_while_its_reference_names_it_and_is_keyed_by_its_content(
    mlflow_store: Path,
) -> None:
    fetched = []
    for reference in ("source", "copy"):
        with storage.writing(mlflow_store / reference) as tree:
            digest = tree.commit(CHECKPOINT).digest
        metadata = {"digest": digest, "reference": str(mlflow_store / reference)}
        fetched.append(dsl.Model(uri=str(mlflow_store / "copy"), metadata=metadata))
    for one in fetched:
        confirm(one)
    cache = VerifiedCache(str(mlflow_store / "cache"))
    assert key(cache, {"checkpoint": fetched[0]}) == key(cache, {"checkpoint": fetched[1]})
    with storage.writing(mlflow_store / "source") as tree:
        tree.commit(dataclasses.replace(CHECKPOINT, step=2))
    with pytest.raises(IntegrityError, match="source is another checkpoint by now"):
        confirm(fetched[0])


def test_what_was_promoted_answers_only_while_the_registry_says_so(mlflow_store: Path) -> None:
    facts = ModelVersion(name="gptj", version=1, alias="champion", checkpoint="c" * 64, verdict="v" * 64)
    with storage.writing(mlflow_store / "version") as tree:
        manifest = tree.commit(facts)
    with pytest.raises(IntegrityError, match="gptj@champion is no longer version 1"):
        confirm(dsl.Artifact(uri=str(mlflow_store / "version"), metadata={"digest": manifest.digest}))


def test_a_verdict_answers_only_while_evidence_that_its_policy_names_is_what_it_was_decided_by(
    mlflow_store: Path,
) -> None:
    report = artifact(mlflow_store / "report")
    facts = Verdict(passed=False, candidate="c" * 64, champion=None, model="gptj", rules=())
    with storage.writing(mlflow_store / "verdict") as tree:
        manifest = tree.commit(facts, {"data_0": report.metadata["digest"]})
    metadata = {"digest": manifest.digest, "evidence": {"data_0": report.uri}}
    verdict = dsl.Artifact(uri=str(mlflow_store / "verdict"), metadata=metadata)
    confirm(verdict)
    artifact(mlflow_store / "report", "other words")
    with pytest.raises(IntegrityError, match="report is another artifact than"):
        confirm(verdict)


def test_a_report_is_checked_like_any_artifact_and_bare_numbers_are_not(tmp_path: Path) -> None:
    made = artifact(tmp_path / "report")
    report = dsl.Metrics(uri=made.uri, metadata=made.metadata)
    confirm(report)
    (tmp_path / "report" / "words.txt").write_text("wards")
    with pytest.raises(IntegrityError, match="is altered"):
        confirm(report)
    for numbers in (dsl.Metrics, dsl.ClassificationMetrics):
        confirm(numbers(uri=str(tmp_path / "nowhere"), metadata={"documents": 3}))
