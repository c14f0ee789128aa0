"""What an evaluation may ask for, and how a mistake in it is refused."""

from typing import Any

import pytest

from headrace.config import decode, encode
from headrace.errors import ConfigError
from headrace.evaluation.config import EvalConfig, TaskConfig

WHOLE = EvalConfig(
    tasks={
        "facts": TaskConfig(kind="exact_match", data="heldout"),
        "facts_3shot": TaskConfig(kind="exact_match", data="heldout", num_fewshot=3, fewshot="instructions"),
        "hellaswag": TaskConfig(kind="hellaswag", data="hella", limit=100),
    },
    perplexity={"prose": "heldout_text"},
)


def test_a_configuration_survives_json() -> None:
    assert decode(EvalConfig, encode(WHOLE)) == WHOLE


def test_the_data_read_is_that_of_every_task_its_examples_and_every_perplexity() -> None:
    assert WHOLE.data_names() == ["heldout", "heldout_text", "hella", "instructions"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "hellaswig"}, "'hellaswig'. Did you mean 'hellaswag'"),
        ({"num_fewshot": -1}, "num_fewshot=-1"),
        ({"num_fewshot": 2}, "fewshot"),
        ({"max_gen_tokens": 0}, "max_gen_tokens=0"),
        ({"limit": 1}, "limit=1"),
    ],
)
def test_a_task_that_cannot_be_run_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TaskConfig(**{"kind": "exact_match", "data": "a", **values})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"perplexity": {}}, "both empty"),
        ({"perplexity": {"a/b": "text"}}, "'a/b'"),
        ({"tasks": {"prose": TaskConfig(kind="piqa", data="x")}}, "'prose'"),
        ({"max_batch_tokens": 0}, "max_batch_tokens=0"),
    ],
)
def test_an_evaluation_that_cannot_be_run_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        EvalConfig(**{"perplexity": {"prose": "text"}, **values})
    assert words in str(caught.value)
