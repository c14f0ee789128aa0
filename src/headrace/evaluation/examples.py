"""What the harness logged of single examples, as rows of a report."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headrace.evaluation.instructed import first_line
from headrace.evaluation.rows import ID
from headrace.evaluation.scores import Example


def read_sample(task: Any, sample: Mapping[str, Any]) -> Example:
    """One row of scores out of what the harness logged."""
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
