"""The evaluate step with a real store: what Kubeflow and MLflow come to show."""

import json
from collections.abc import Callable
from pathlib import Path

from kfp import dsl

from components.evaluation.evaluate import evaluate
from components.evaluation.evaluate_incumbent import evaluate_incumbent
from headrace import registry, storage
from headrace.artifacts import EvalReport, Verdict
from headrace.config import encode
from headrace.data.corpus import CorpusConfig, gather_corpus
from headrace.evaluation.config import EvalConfig, TaskConfig
from headrace.evaluation.scores import read_examples, score_file
from headrace.tracking import client, experiment_id, nested_run
from pipelines.caching import confirm


def test_an_evaluation_is_shown_by_kubeflow_and_kept_by_mlflow(mlflow_store: Path, seal: Callable[..., Path]) -> None:
    rows = [{"goal": f"cage {n}", "sol1": "paper", "sol2": "water", "label": n % 2} for n in range(4)]
    (mlflow_store / "piqa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    gather_corpus(CorpusConfig(files={"piqa": str(mlflow_store / "piqa.jsonl")}), mlflow_store / "corpus")
    checkpoint = seal(mlflow_store / "checkpoint")
    made = {name: str(mlflow_store / name) for name in ("report", "page", "confusion")}
    report, page = dsl.Metrics(uri=made["report"]), dsl.HTML(uri=made["page"])
    confusion = dsl.ClassificationMetrics(uri=made["confusion"])
    digest = {"digest": storage.read_manifest(checkpoint).digest}
    evaluate.python_func(
        checkpoint=dsl.Model(uri=str(checkpoint), metadata=digest),
        corpus=dsl.Dataset(uri=str(mlflow_store / "corpus")),
        config=encode(EvalConfig(tasks={"piqa": TaskConfig(kind="piqa", data="piqa")})),
        report=report,
        page=page,
        confusion=confusion,
    )
    facts = storage.read(made["report"], EvalReport).facts
    assert report.metadata["piqa/acc"] == facts.metrics["piqa/acc"].value
    assert Path(page.path).read_bytes() == (Path(made["report"]) / "report.html").read_bytes()
    for artifact in (report, page, confusion):
        confirm(artifact)
    told = confusion.metadata["confusionMatrix"]
    examples = read_examples(score_file(Path(made["report"]), "piqa"))
    right = sum(row["row"][n] for n, row in enumerate(told["rows"]))
    assert right == sum(example.scores["acc"] for example in examples)
    (run,) = [run for run in client().search_runs([experiment_id()]) if "piqa/acc" in run.data.metrics]
    assert run.data.metrics["piqa/acc_stderr"] == facts.metrics["piqa/acc"].stderr
    assert {"report.html", "evaluation.json", "scores/piqa.parquet"} <= kept(run.info.run_id)


def kept(run_id: str) -> set[str]:
    """Files that MLflow has of an evaluation."""
    found = (file for folder in ("", "/scores") for file in client().list_artifacts(run_id, f"evaluation{folder}"))
    return {file.path.removeprefix("evaluation/") for file in found}


def test_the_version_to_beat_is_measured_shown_and_kept_as_the_candidate_is(
    mlflow_store: Path, seal: Callable[..., Path]
) -> None:
    (mlflow_store / "text.jsonl").write_text('{"text": "a wheel"}\n{"text": "a mill"}\n')
    gather_corpus(CorpusConfig(files={"text": str(mlflow_store / "text.jsonl")}), mlflow_store / "corpus")
    first, second = (seal(mlflow_store / name, step=n) for n, name in enumerate(("first", "second")))
    digests = [storage.read_manifest(uri).digest for uri in (first, second)]
    with storage.writing(mlflow_store / "verdict") as tree:
        tree.commit(Verdict(passed=True, candidate=digests[0], champion=None, model="gptj", rules=()))
    registry.promote("gptj", str(first), str(mlflow_store / "verdict"), run_id=nested_run("run", "promote"))
    report, page = dsl.Metrics(uri=str(mlflow_store / "report")), dsl.HTML(uri=str(mlflow_store / "page"))
    evaluate_incumbent.python_func(
        candidate=dsl.Model(uri=str(second), metadata={"digest": digests[1]}),
        corpus=dsl.Dataset(uri=str(mlflow_store / "corpus")),
        model="gptj",
        config=encode(EvalConfig(perplexity={"text": "text"})),
        report=report,
        page=page,
        confusion=dsl.ClassificationMetrics(uri=str(mlflow_store / "confusion")),
    )
    facts = storage.read(report.path, EvalReport).facts
    assert facts.checkpoint == digests[0]
    assert report.metadata["text/perplexity"] == facts.metrics["text/perplexity"].value
    assert Path(page.path).read_bytes() == (Path(report.path) / "report.html").read_bytes()
    (run,) = [run for run in client().search_runs([experiment_id()]) if "text/perplexity" in run.data.metrics]
    assert {"report.html", "evaluation.json", "scores/text.parquet"} <= kept(run.info.run_id)


def test_where_there_is_no_version_to_beat_the_page_says_so(mlflow_store: Path, seal: Callable[..., Path]) -> None:
    (mlflow_store / "text.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    gather_corpus(CorpusConfig(files={"text": str(mlflow_store / "text.jsonl")}), mlflow_store / "corpus")
    digest = {"digest": storage.read_manifest(seal(mlflow_store / "checkpoint")).digest}
    page = dsl.HTML(uri=str(mlflow_store / "page"))
    confusion = dsl.ClassificationMetrics(uri=str(mlflow_store / "confusion"))
    evaluate_incumbent.python_func(
        candidate=dsl.Model(uri=str(mlflow_store / "checkpoint"), metadata=digest),
        corpus=dsl.Dataset(uri=str(mlflow_store / "corpus")),
        model="gptj",
        config=encode(EvalConfig(perplexity={"text": "text"})),
        report=dsl.Metrics(uri=str(mlflow_store / "report")),
        page=page,
        confusion=confusion,
    )
    assert "no version to beat yet" in Path(page.path).read_text()
    for artifact in (page, confusion):
        confirm(artifact)
