from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace

from headrace import status, storage, tracking
from headrace.artifacts import Corpus
from headrace.tracking import TaskRun, Tracker, client, task
from tests.unit.tracking.seen import run_of


def test_what_was_asked_and_measured_is_recorded(place: str) -> None:
    wide = {f"layer{n}": n for n in range(250)}
    config = {"model": {"wide": wide, "mask": "prefix"}, "betas": [0.9, 0.95], "long": "x" * 9000, "none": None}
    inputs = {"tokens": SimpleNamespace(metadata={"digest": "d" * 64}, uri="gs://b/tokens")}
    with task(config, inputs) as run:
        run.metrics({"loss": 3.5, "perplexity": float("nan")}, step=10)
        run.metrics({"loss": 2}, step=20)
        run.metrics({f"task/{n}": n / 7 for n in range(230)})
        run.tags({"headrace.note": "y" * 9000})
    found = run_of(run.run_id)
    assert found.data.params["model.mask"] == "prefix"
    assert {key: value for key, value in found.data.params.items() if "wide" in key} == {
        f"model.wide.layer{n}": str(n) for n in range(250)
    }
    assert (found.data.params["betas"], found.data.params["none"]) == ("[0.9, 0.95]", "None")
    assert found.data.params["long"] == "x" * 6000
    assert found.data.tags["headrace.note"] == "y" * 8000
    loss = [(point.step, point.value) for point in client().get_metric_history(run.run_id, "loss")]
    assert loss == [(10, 3.5), (20, 2.0)]
    assert found.data.metrics["perplexity"] != found.data.metrics["perplexity"]
    assert [found.data.metrics[f"task/{n}"] for n in (0, 229)] == [0, 229 / 7]
    (used,) = found.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest, used.dataset.source) == ("tokens", "d" * 36, "gs://b/tokens")
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "tokens")]


def test_an_output_is_told_to_kfp_to_mlflow_and_to_the_runner(pipeline: str, tmp_path: Path) -> None:
    with storage.writing(tmp_path / "out") as tree:
        manifest = tree.commit(Corpus(documents=7, sources={"mill": 7}))
    output = SimpleNamespace(metadata={}, uri=str(tmp_path / "out"))
    with task() as run:
        run.made(output, manifest, "7 documents")
        (tmp_path / "report.txt").write_text("fine")
        run.artifact(tmp_path / "report.txt", "reports")
        run.progress("half", 0.5)
    assert output.metadata == {"digest": manifest.digest, "kind": "corpus", "documents": 7}
    tags = run_of(run.run_id).data.tags
    assert (tags["headrace.digest"], tags["headrace.uri"]) == (manifest.digest, str(tmp_path / "out"))
    assert [file.path for file in client().list_artifacts(run.run_id, "reports")] == ["reports/report.txt"]
    said = status.read(tmp_path / "status.json")
    assert (said["headline"], said["digest"], said["run_id"]) == ("7 documents", manifest.digest, run.run_id)


def test_the_machine_is_told_by_mlflows_own_names(pipeline: str) -> None:
    with tracking.task() as run:
        first, again = run.machine(), run.machine()
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= first.keys()
    assert first.keys() == again.keys()
    assert 0 < again["system/system_memory_usage_percentage"] < 100


def test_the_null_tracker_swallows_everything(tmp_path: Path) -> None:
    tracker = Tracker()
    tracker.params({"a": {"b": 1}})
    tracker.metrics({"loss": 1.0}, step=3)
    tracker.artifact(tmp_path)
    tracker.progress("half", 0.5)


def test_flattening_keeps_every_leaf_under_its_path() -> None:
    nested = {"a": {"b": {"c": 1}, "d": [1, {"e": 2}]}, "f": None, "g": {}}
    assert tracking.flatten(nested) == {"a.b.c": 1, "a.d": [1, {"e": 2}], "f": None}


def test_turns_of_a_loop_that_begin_together_all_record_what_they_use(pipeline: str) -> None:
    with task() as run:
        turns = [TaskRun(run.run_id, f"turn {n}", adopted=True) for n in range(8)]
        for digest in "abc":
            together = Barrier(len(turns))

            def use(turn: TaskRun, digest: str = digest, together: Barrier = together) -> None:
                together.wait()
                turn.used({"corpus": (digest, "gs://b/corpus"), f"piece {digest}": (digest, "gs://b/piece")})

            with ThreadPoolExecutor(len(turns)) as threads:
                list(threads.map(use, turns))
    assert sorted(used.dataset.digest for used in run_of(run.run_id).inputs.dataset_inputs) == [*"aabbcc"]


def test_a_step_that_joins_thousands_of_pieces_records_each(pipeline: str) -> None:
    given = {f"pieces[{number}]": (f"{number:064x}", f"gs://b/{number}") for number in range(2100)}
    with task() as run:
        run.used(given)
        run.used(given)
    datasets = [used.dataset for used in run_of(run.run_id).inputs.dataset_inputs]
    assert sorted((one.name, one.source) for one in datasets) == sorted((role, uri) for role, (_, uri) in given.items())
    assert {len(one.digest) for one in datasets} == {36}
