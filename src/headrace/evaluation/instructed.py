"""Tasks that the harness does not have, in its form: an instruction is followed, a label is given.

Letters: none; scores are of single examples.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headrace.evaluation import natural_instructions
from headrace.evaluation.config import EXACT_MATCH, NATURAL_INSTRUCTIONS, RAFT, TaskConfig
from headrace.evaluation.rows import Row

Score = Callable[[Row, Sequence[str]], dict[str, float]]
GENERATED, LIKELIEST = RAFT


def build_instructed(config: TaskConfig, overrides: Mapping[str, Any]) -> Any:
    """Make the harness's task object; solved examples stand before a prompt, a blank line between."""
    from lm_eval.api.task import ConfigurableTask

    asked = _likeliest() if config.kind == LIKELIEST else _answered(config)
    opening = {"description": "instructions"} if config.kind in RAFT else {}
    form = {"doc_to_text": "prompt", "target_delimiter": " ", "fewshot_delimiter": "\n\n"}
    return ConfigurableTask(config={**overrides, **form, **opening, **asked})


def match_first_line(doc: Row, results: Sequence[str]) -> dict[str, float]:
    """Whether the first line of an answer is the target, whitespace around either left out."""
    return {EXACT_MATCH: float(first_line(results[0]) == doc["target"].strip())}


def match_references(doc: Row, results: Sequence[str]) -> dict[str, float]:
    """Hold the first line of an answer against all references."""
    return natural_instructions.score(first_line(results[0]), doc["references"])


def first_line(text: str) -> str:
    """What counts as the answer in a generated text."""
    return text.split("\n", 1)[0].strip()


def _answered(config: TaskConfig) -> dict[str, Any]:
    """Greedily, to the end of the line."""
    references = config.kind == NATURAL_INSTRUCTIONS
    metrics = (EXACT_MATCH, "rouge_l") if references else (EXACT_MATCH,)
    return {
        "output_type": "generate_until",
        "doc_to_target": "target",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": config.max_gen_tokens, "do_sample": False},
        "metric_list": [_mean(metric) for metric in metrics],
        "process_results": match_references if references else match_first_line,
    }


def _likeliest() -> dict[str, Any]:
    """Of all labels the one with the highest log-likelihood."""
    return {
        "output_type": "multiple_choice",
        "doc_to_target": "label",
        "doc_to_choice": "choices",
        "metric_list": [_mean("acc")],
    }


def _mean(metric: str) -> dict[str, Any]:
    return {"metric": metric, "aggregation": "mean", "higher_is_better": True}
