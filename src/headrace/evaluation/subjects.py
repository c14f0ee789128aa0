"""MMLU as one number: the questions of its subjects together, as the harness's group `mmlu` weighs them."""

from collections.abc import Mapping, Sequence

from headrace.artifacts import Metric
from headrace.evaluation.config import MMLU, EvalConfig
from headrace.evaluation.scores import Measured


def over_subjects(config: EvalConfig, found: Mapping[str, Measured]) -> dict[str, Metric]:
    """Metrics over all questions of two subjects or more, as `mmlu/acc`.

    Nothing where subjects were asked after different numbers of shots, which is no one measurement, or where a
    task has taken the name.

    Args:
        config: What was asked.
        found: What each task measured, by name.
    """
    subjects = {name: task for name, task in config.tasks.items() if task.kind == MMLU}
    if len(subjects) < 2 or MMLU in {*config.tasks, *config.perplexity}:
        return {}
    if len({task.num_fewshot for task in subjects.values()}) > 1:
        return {}
    parts = [found[name].metrics for name in subjects]
    return {f"{MMLU}/{key}": _pooled([part[key] for part in parts]) for key in parts[0]}


def _pooled(parts: Sequence[Metric]) -> Metric:
    from lm_eval.api.metrics import aggregate_subtask_metrics, pooled_sample_stderr

    sizes = [part.n for part in parts]
    return Metric(
        value=float(aggregate_subtask_metrics([part.value for part in parts], sizes)),
        stderr=float(pooled_sample_stderr([part.stderr for part in parts], sizes)),
        n=sum(sizes),
    )
