"""How the harness's generation keywords are read, and where generated text ends."""

from typing import Any

import pytest

from headrace.data.tokenizer import TextTokenizer
from headrace.evaluation.decoding import DEFAULT_GEN_TOKENS, before, read_manner, stopper


@pytest.mark.parametrize(
    ("values", "sampling"),
    [
        ({}, {}),
        ({"temperature": 0.0}, {}),
        ({"do_sample": False, "temperature": 0.7}, {}),
        ({"temperature": 0.7}, {"temperature": 0.7}),
        ({"do_sample": True}, {"temperature": 1.0}),
        (
            {"do_sample": True, "temperature": 0.5, "top_p": 0.9, "top_k": 4},
            {"temperature": 0.5, "top_p": 0.9, "top_k": 4},
        ),
    ],
)
def test_decoding_is_greedy_unless_a_task_asks_for_more(values: dict[str, Any], sampling: dict[str, Any]) -> None:
    assert read_manner(values).sampling == sampling


def test_the_length_has_several_names_and_the_harness_own_default() -> None:
    assert read_manner({}).max_tokens == DEFAULT_GEN_TOKENS == 256
    assert read_manner({"max_tokens": 3, "max_gen_toks": 5}).max_tokens == 5
    assert read_manner({"max_new_tokens": 4}).max_tokens == 4


def test_a_stop_string_may_be_given_alone_or_in_a_list_with_empty_ones() -> None:
    assert read_manner({"until": "\n"}).until == ("\n",)
    assert read_manner({"until": ["", "\n", "Q:"]}).until == ("\n", "Q:")


def test_text_ends_before_the_first_of_its_stop_strings() -> None:
    assert before("one. two\nthree. four", ["\n", ". "]) == "one"
    assert before("one two", ["x"]) == "one two"


@pytest.mark.parametrize("stop", ["\n", "wheel", "\U0001f600", "r to"])
def test_a_row_stops_at_the_token_that_completes_a_stop_string(tokenizer: TextTokenizer, stop: str) -> None:
    text = "naïve café, water to the wheel \U0001f600\nand on"
    ids = tokenizer.encode(text)
    completed = stopper(tokenizer.decode, [stop])
    assert completed is not None
    first = next(n for n in range(1, len(ids) + 1) if stop in tokenizer.decode(ids[:n]))
    assert [completed(ids[:n]) for n in range(1, first + 1)] == [False] * (first - 1) + [True]


def test_nothing_is_watched_where_there_is_no_stop_string(tokenizer: TextTokenizer) -> None:
    assert stopper(tokenizer.decode, []) is None
