"""Tasks of lm-evaluation-harness on local files, and others in the same form.

A harness task is the harness's own YAML and preprocessing, included unchanged; only where its rows
come from is overridden. Nothing is looked up or downloaded, and the index of all tasks, which takes seconds
to build, is not needed.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.artifacts import Metric
from headrace.errors import DataError
from headrace.evaluation import estimate
from headrace.evaluation.config import MMLU, RAFT, TaskConfig
from headrace.evaluation.examples import read_sample
from headrace.evaluation.instructed import build_instructed
from headrace.evaluation.lm import HeadraceLM
from headrace.evaluation.rows import Row
from headrace.evaluation.scores import Example, Measured, columns
from headrace.evaluation.sources import Data, question, read_task, uris

__all__ = ["HeadraceLM", "build_task", "run_task"]

YAML = {
    "lambada_openai": "lambada/lambada_openai.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "winogrande": "winogrande/default.yaml",
    "piqa": "piqa/piqa.yaml",
    MMLU: "mmlu/default/mmlu_{subject}.yaml",
}
"""Where the harness defines each task, under its `tasks`."""


def run_task(lm: HeadraceLM, name: str, config: TaskConfig, data: Data, *, seed: int = 0) -> Measured:
    """Run one task through the harness's evaluator.

    Raises:
        ConfigError: Data that was not given.
        DataError: A file that cannot be read as what the task needs.
    """
    from lm_eval.evaluator import evaluate

    with tempfile.TemporaryDirectory(prefix="headrace-task-") as folder:
        task = build_task(name, config, data, Path(folder), seed=seed)
        results = evaluate(lm, {"tasks": {name: task}}, bootstrap_iters=0, log_samples=True)
    samples = results["samples"][name]
    examples = [read_sample(task, sample) for sample in samples]
    better = task.higher_is_better()
    names = samples[0]["metrics"]
    return Measured({m: _metric(task, m, examples, name, higher_is_better=better[m]) for m in names}, examples)


def build_task(name: str, config: TaskConfig, data: Data, folder: Path, *, seed: int = 0) -> Any:
    """Make the harness's task object, its rows laid out in `folder`, which must outlive it.

    Args:
        name: What the task is called in results.
        config: Its kind and data.
        data: Files by name.
        folder: An empty directory for its rows, its YAML and the cache of `datasets`.
        seed: Few-shot examples follow from it.
    """
    rows = read_task(config.kind, uris(data, config.data))[: config.limit]
    files = {"test": _write_rows(folder / "test.parquet", rows)}
    shown = None
    if config.num_fewshot and config.fewshot is not None:
        shown = "test" if _others_serve(config, rows) else "train"
    if shown == "train":
        pool = _pool(rows, read_task(config.kind, uris(data, config.fewshot or "")), config)
        files["train"] = _write_rows(folder / "train.parquet", pool)
    overrides = {
        "task": name,
        "dataset_path": "parquet",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files, "cache_dir": str(folder / "cache")},
        "training_split": None,
        "fewshot_split": shown,
        "validation_split": None,
        "test_split": "test",
        "num_fewshot": config.num_fewshot,
    }
    if config.kind in YAML:
        task = _harness_task(_yaml(config, rows), overrides, folder)
    else:
        task = build_instructed(config, overrides)
    task.set_fewshot_seed(seed)
    return task


def _yaml(config: TaskConfig, rows: Sequence[Row]) -> Path:
    """The harness's own file of a task.

    Raises:
        DataError: It has none for the subject, or there are several subjects.
    """
    import lm_eval

    subjects = {row.get("subject", "") for row in rows}
    if len(subjects) > 1:
        raise DataError(f"{config.data!r} has rows of {len(subjects)} subjects. Make each subject of MMLU a task.")
    (subject,) = subjects
    file = Path(lm_eval.__file__).parent / "tasks" / YAML[config.kind].format(subject=subject)
    if not file.is_file():
        raise DataError(f"{config.data!r} is of {subject!r}, which is no subject of MMLU. Correct the rows.")
    return file


def _others_serve(config: TaskConfig, rows: Sequence[Row]) -> bool:
    """Whether each row is asked after some of the others, as for RAFT, which has no more labelled ones.

    Raises:
        DataError: There are too few.
    """
    if config.kind not in RAFT or config.fewshot != config.data:
        return False
    if len(rows) <= config.num_fewshot:
        raise DataError(f"{config.data!r} has {len(rows)} rows, and num_fewshot={config.num_fewshot}. Ask for fewer.")
    return True


def _harness_task(original: Path, overrides: Mapping[str, Any], folder: Path) -> Any:
    """Include the harness's YAML in one that says where the rows are, as its documentation has it."""
    from lm_eval.tasks import TaskManager

    local = folder / "yaml" / "task.yaml"
    local.parent.mkdir()
    local.write_text(json.dumps({"include": str(original), **overrides}))  # JSON is YAML
    manager = TaskManager(include_path=str(local.parent), include_defaults=False)
    return manager.load(overrides["task"])["tasks"][overrides["task"]]


def _pool(rows: Sequence[Row], candidates: Sequence[Row], config: TaskConfig) -> list[Row]:
    """Examples to draw from: none of the questions evaluated, or answers would be given away."""
    asked = {question(row) for row in rows}
    pool = [row for row in candidates if question(row) not in asked]
    if len(pool) < config.num_fewshot:
        raise DataError(
            f"{config.fewshot!r} leaves {len(pool)} examples that are not evaluated, and num_fewshot="
            f"{config.num_fewshot}. Give other data to draw from, or fewer."
        )
    return pool


def _write_rows(path: Path, rows: Sequence[Row]) -> str:
    """Lay rows out with their types; read from JSON, a column of dates would no longer be text."""
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_list(list(rows)).to_parquet(path)
    return str(path)


def _metric(task: Any, metric: str, examples: Sequence[Example], name: str, *, higher_is_better: bool) -> Metric:
    """Aggregate as the task says, with a standard error in closed form rather than by 100,000 resamples."""
    values_N, weights_N = columns(examples, metric)
    where = f"{name}/{metric}"
    if task.aggregation()[metric].__name__ == "perplexity":
        return estimate.perplexity(values_N, weights_N, where)
    return estimate.mean(values_N, weights_N, where, higher_is_better=higher_is_better)
