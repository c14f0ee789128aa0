"""One whole evaluation of a sealed checkpoint, and what its report says."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from headrace import storage
from headrace.artifacts import EvalReport
from headrace.data.tokenizer import TextTokenizer
from headrace.errors import ConfigError, DataError, IntegrityError
from headrace.evaluation.config import EvalConfig, TaskConfig
from headrace.evaluation.details import describe, identity
from headrace.evaluation.lm import HeadraceLM
from headrace.evaluation.perplexity import run_perplexity
from headrace.evaluation.report import evaluate, headline, nothing_to_beat
from headrace.evaluation.scores import read_examples
from headrace.evaluation.tasks import run_task
from headrace.models.gptj import GPTJ
from headrace.tracking import Tracker

CONFIG = EvalConfig(
    tasks={
        "facts": TaskConfig(kind="exact_match", data="heldout", max_gen_tokens=4),
        "facts_2shot": TaskConfig(
            kind="exact_match", data="heldout", num_fewshot=2, fewshot="solved", max_gen_tokens=4
        ),
        "piqa": TaskConfig(kind="piqa", data="piqa"),
    },
    perplexity={"prose": "text"},
)


class Recorder(Tracker):
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}
        self.shares: list[float] = []

    def params(self, values: Mapping[str, Any]) -> None:
        self.told.update(values)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        self.told.update(values)

    def progress(self, text: str, fraction: float | None = None) -> None:
        self.shares.append(fraction or 0.0)


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    prompts = [f"Input: {country} Output:" for country in ("Norway", "Malta", "Oman", "Zürich")]
    rows: dict[str, list[Any]] = {
        "heldout": [{"prompt": prompt, "target": " krone"} for prompt in prompts],
        "solved": [{"prompt": f"Given: {n} " + "water " * 30, "target": " wheel"} for n in range(3)],
        "piqa": [{"goal": f"cage {n}", "sol1": "paper", "sol2": "water"} for n in range(3)],
        "text": [{"text": "The river carries water."}, {"text": "A man is sitting on a roof."}],
    }
    for name, lines in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    (tmp_path / "piqa-labels.lst").write_text("0\n1\n1\n")
    files: dict[str, Any] = {name: str(tmp_path / f"{name}.jsonl") for name in rows}
    return {**files, "text": [files["text"]], "not asked for": "nowhere"}


def test_a_report_holds_every_metric_and_its_examples(
    seal: Callable[..., Path], data: dict[str, Any], tmp_path: Path, model: GPTJ, tokenizer: TextTokenizer
) -> None:
    checkpoint = seal(tmp_path / "checkpoint", "prefix")
    manifest = evaluate(checkpoint, tmp_path / "report", CONFIG, data=data, tracker=Tracker())
    report = storage.read(tmp_path / "report", EvalReport)
    assert report.manifest == manifest
    assert report.facts.checkpoint == manifest.parents["checkpoint"] == storage.read_manifest(checkpoint).digest
    assert report.facts.mask == "prefix"
    lm = HeadraceLM(model, tokenizer, "prefix")
    expected = {name: run_task(lm, name, task, data) for name, task in CONFIG.tasks.items()}
    expected |= run_perplexity(lm, "prose", data["text"])
    for name, measured in expected.items():
        assert read_examples(report.path / "scores" / f"{name}.parquet") == measured.examples
        for metric, value in measured.metrics.items():
            assert report.facts.metrics[f"{name}/{metric}"] == value
    assert len(report.facts.metrics) == 6


def test_equal_inputs_give_an_equal_digest_and_the_checkpoint_decides_the_mask(
    seal: Callable[..., Path], data: dict[str, Any], tmp_path: Path
) -> None:
    checkpoint = seal(tmp_path / "a")
    one, two = (evaluate(checkpoint, tmp_path / n, CONFIG, data=data, tracker=Tracker()) for n in ("r1", "r2"))
    smaller = dataclasses.replace(CONFIG, headline="piqa/acc")
    three = evaluate(checkpoint, tmp_path / "r3", smaller, data=data, tracker=Tracker())
    causal = evaluate(seal(tmp_path / "b", "causal"), tmp_path / "r4", CONFIG, data=data, tracker=Tracker())
    assert one.digest == two.digest == three.digest
    assert causal.facts.mask == "causal"
    assert causal.facts.data == one.facts.data
    nats = [read_examples(tmp_path / r / "scores" / "piqa.parquet")[0].loglikelihoods for r in ("r1", "r4")]
    assert nats[0] != nats[1]


def test_the_tracker_learns_metrics_errors_truncation_and_progress(
    seal: Callable[..., Path], data: dict[str, Any], tmp_path: Path
) -> None:
    tracker = Recorder()
    manifest = evaluate(seal(tmp_path / "a"), tmp_path / "report", CONFIG, data=data, tracker=tracker)
    for key, metric in manifest.facts.metrics.items():
        assert (tracker.told[key], tracker.told[f"{key}_stderr"]) == (metric.value, metric.stderr)
    assert tracker.told["data"] == manifest.facts.data
    assert tracker.told["mask"] == "prefix"
    details = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert tracker.told["truncated_requests"] == details["truncated_requests"] == 4  # two shots exceed the context
    assert tracker.told["truncated_tokens"] == details["truncated_tokens"] > 4
    assert details["config"]["bos_eos"] is False
    assert tracker.shares == sorted(tracker.shares) and tracker.shares[-1] == 1


def test_what_was_asked_is_told_by_data_and_settings_alone(data: dict[str, Any], tmp_path: Path) -> None:
    asked = identity(describe(CONFIG, data))
    assert asked == identity(describe(dataclasses.replace(CONFIG, max_batch_tokens=7), data))
    moved = tmp_path / "elsewhere.jsonl"
    moved.write_bytes(Path(data["heldout"]).read_bytes())
    assert asked == identity(describe(CONFIG, {**data, "heldout": [str(moved)]}))
    assert asked != identity(describe(dataclasses.replace(CONFIG, seed=1), data))
    Path(tmp_path / "piqa-labels.lst").write_text("1\n1\n1\n")
    labelled = identity(describe(CONFIG, data))
    with moved.open("a") as file:
        file.write(json.dumps({"prompt": "more", "target": "x"}) + "\n")
    assert len({asked, labelled, identity(describe(CONFIG, {**data, "heldout": str(moved)}))}) == 3


def test_the_headline_is_the_metric_asked_for_or_the_first(
    seal: Callable[..., Path], data: dict[str, Any], tmp_path: Path
) -> None:
    facts = evaluate(seal(tmp_path / "a"), tmp_path / "r", CONFIG, data=data, tracker=Tracker()).facts
    assert headline(facts, CONFIG).startswith("facts/exact_match 0.")
    assert headline(facts, dataclasses.replace(CONFIG, headline="prose/perplexity")).startswith("prose/perplexity ")
    empty = nothing_to_beat(tmp_path / "none", CONFIG, data=data).facts
    assert (empty.checkpoint, empty.metrics, empty.data) == ("", {}, facts.data)
    assert headline(empty, CONFIG) == "nothing measured"


def test_a_broken_file_is_found_before_anything_is_scored(
    seal: Callable[..., Path], data: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "piqa-labels.lst").write_text("0\n1\n2\n")
    recorder = Recorder()
    with pytest.raises(DataError, match=r"label='2', and the choices are 0 to 1"):
        evaluate(seal(tmp_path / "a"), tmp_path / "report", CONFIG, data=data, tracker=recorder)
    assert (recorder.shares, (tmp_path / "report").exists()) == ([], False)


def test_data_that_is_not_there_and_a_broken_checkpoint_leave_no_report(
    seal: Callable[..., Path], data: dict[str, Any], tmp_path: Path
) -> None:
    checkpoint = seal(tmp_path / "a")
    del data["text"]
    with pytest.raises(ConfigError, match="no data 'text'"):
        evaluate(checkpoint, tmp_path / "report", CONFIG, data=data, tracker=Tracker())
    with (checkpoint / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        evaluate(checkpoint, tmp_path / "report", CONFIG, data=data, tracker=Tracker())
    assert not (tmp_path / "report").exists()


def test_subjects_of_mmlu_are_reported_together_too(seal: Callable[..., Path], tmp_path: Path) -> None:
    tasks, data = {}, {}
    for subject, questions in (("abstract_algebra", 3), ("world_religions", 2)):
        rows = [
            {"question": f"{n} + 1?", "subject": subject, "choices": ["1", "2", "3", "4"], "answer": n}
            for n in range(questions)
        ]
        data[subject] = str(tmp_path / f"{subject}.jsonl")
        Path(data[subject]).write_text("".join(json.dumps(row) + "\n" for row in rows))
        tasks[subject] = TaskConfig(kind="mmlu", data=subject)
    evaluate(seal(tmp_path / "c", "causal"), tmp_path / "r", EvalConfig(tasks=tasks), data=data, tracker=Tracker())
    metrics = storage.read(tmp_path / "r", EvalReport).facts.metrics
    right = sum(metrics[f"{subject}/acc"].value * metrics[f"{subject}/acc"].n for subject in tasks)
    assert (metrics["mmlu/acc"].n, metrics["mmlu/acc"].value) == (5, pytest.approx(right / 5))
    assert "mmlu" in (tmp_path / "r" / "report.html").read_text()
