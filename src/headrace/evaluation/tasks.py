"""Tasks of lm-evaluation-harness on local files, and exact match on instructions in the same form.

A harness task is the harness's own YAML and preprocessing, included unchanged; only where its rows
come from is overridden. Nothing is looked up or downloaded, and the index of all tasks, which takes seconds
to build, is not needed.
"""

import itertools
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headrace.artifacts import Metric
from headrace.errors import DataError
from headrace.evaluation import estimate
from headrace.evaluation.config import EXACT_MATCH, TaskConfig
from headrace.evaluation.lm import HeadraceLM
from headrace.evaluation.scores import Example, Measured, columns
from headrace.evaluation.sources import ID, Data, Row, question, read_task, uris

__all__ = ["HeadraceLM", "build_task", "run_task"]

YAML = {
    "lambada_openai": "lambada/lambada_openai.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "winogrande": "winogrande/default.yaml",
    "piqa": "piqa/piqa.yaml",
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
    examples = [_example(task, sample) for sample in samples]
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
    if config.num_fewshot and config.fewshot is not None:
        pool = _pool(rows, read_task(config.kind, uris(data, config.fewshot)), config)
        files["train"] = _write_rows(folder / "train.parquet", pool)
    overrides = {
        "task": name,
        "dataset_path": "parquet",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files, "cache_dir": str(folder / "cache")},
        "training_split": None,
        "fewshot_split": "train" if "train" in files else None,
        "validation_split": None,
        "test_split": "test",
        "num_fewshot": config.num_fewshot,
    }
    task = (
        _exact_match_task(config, overrides) if config.kind == EXACT_MATCH else _harness_task(config, overrides, folder)
    )
    task.set_fewshot_seed(seed)
    return task


def _harness_task(config: TaskConfig, overrides: Mapping[str, Any], folder: Path) -> Any:
    """Include the harness's YAML in one that says where the rows are, as its documentation has it."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    original = Path(lm_eval.__file__).parent / "tasks" / YAML[config.kind]
    local = folder / "yaml" / "task.yaml"
    local.parent.mkdir()
    local.write_text(json.dumps({"include": str(original), **overrides}))  # JSON is YAML
    manager = TaskManager(include_path=str(local.parent), include_defaults=False)
    return manager.load(overrides["task"])["tasks"][overrides["task"]]


def _exact_match_task(config: TaskConfig, overrides: Mapping[str, Any]) -> Any:
    """Prompts to be answered greedily; solved examples stand before them as `prompt target`, a blank line between."""
    from lm_eval.api.task import ConfigurableTask

    values = {
        **overrides,
        "output_type": "generate_until",
        "doc_to_text": "prompt",
        "doc_to_target": "target",
        "target_delimiter": " ",
        "fewshot_delimiter": "\n\n",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": config.max_gen_tokens, "do_sample": False},
        "metric_list": [{"metric": EXACT_MATCH, "aggregation": "mean", "higher_is_better": True}],
        "process_results": match_first_line,
    }
    return ConfigurableTask(config=values)


def match_first_line(doc: Row, results: Sequence[str]) -> dict[str, float]:
    """Whether the first line of an answer is the target, whitespace around either left out."""
    return {EXACT_MATCH: float(first_line(results[0]) == doc["target"].strip())}


def first_line(text: str) -> str:
    """What counts as the answer in a generated text."""
    return text.split("\n", 1)[0].strip()


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


def _example(task: Any, sample: Mapping[str, Any]) -> Example:
    """One line of scores out of what the harness logged."""
    describe = {"generate_until": _describe_answer, "loglikelihood": _describe_target}
    return Example(
        id=sample["doc"].get(ID) or f"{sample['doc_id']}-{sample['doc_hash'][:12]}",
        scores={metric: float(sample[metric]) for metric in sample["metrics"]},
        **describe.get(task.OUTPUT_TYPE, _describe_choice)(task, sample),
    )


def _describe_answer(task: Any, sample: Mapping[str, Any]) -> dict[str, Any]:
    answer = first_line(sample["filtered_resps"][0])
    return {"prompt": sample["arguments"][0][0], "target": sample["target"], "prediction": answer}


def _describe_target(task: Any, sample: Mapping[str, Any]) -> dict[str, Any]:
    (prompt, target), (nats, greedy) = sample["arguments"][0], sample["filtered_resps"][0]
    prediction = target if greedy else None
    return {"prompt": prompt, "target": target, "prediction": prediction, "loglikelihoods": [float(nats)]}


def _describe_choice(task: Any, sample: Mapping[str, Any]) -> dict[str, Any]:
    nats = [float(answer[0]) for answer in sample["filtered_resps"]]
    prompt = common_start([context for context, _ in sample["arguments"]])
    choices = [(context + continuation)[len(prompt) :] for context, continuation in sample["arguments"]]
    gold = task.doc_to_text(sample["doc"]) if task.multiple_input else sample["target"]
    said = choices[int(np.argmax(nats))]
    return {
        "prompt": prompt,
        "choices": choices,
        "target": choices[gold],
        "prediction": said,
        "loglikelihoods": nats,
    }


def common_start(contexts: Sequence[str]) -> str:
    """What all contexts begin with: the one context, or the words before they part."""
    if len(set(contexts)) == 1:
        return contexts[0]
    words = zip(*(context.split(" ") for context in contexts), strict=False)
    return "".join(f"{same[0]} " for same in itertools.takewhile(lambda those: len(set(those)) == 1, words))
