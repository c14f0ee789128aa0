import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.data.mixture import Turns, check_weights, needed, select_sources
from headrace.data.shard_files import OpenShards
from headrace.errors import ConfigError

MakeShards = Callable[..., OpenShards]


@settings(max_examples=40, deadline=None)
@given(
    weights=st.lists(st.floats(0.01, 1.0), min_size=2, max_size=7),
    seed=st.integers(0, 2**32),
    context=st.sampled_from([64, 256, 2048]),
)
def test_shares_are_within_half_a_point_after_a_million_tokens(weights: list[float], seed: int, context: int) -> None:
    random = np.random.default_rng(seed)
    fullness = random.uniform(0.2, 1.0, len(weights))  # some sources fill their rows badly
    turns = Turns({f"source{n}": weight for n, weight in enumerate(weights)})
    while sum(turns.tokens.values()) < 1_000_000:
        name = turns.next()
        turns.tokens[name] += max(1, int(context * fullness[int(name[6:])] * random.uniform(0.5, 1)))
    total = sum(turns.tokens.values())
    for number, weight in enumerate(weights):
        assert abs(turns.tokens[f"source{number}"] / total - weight / sum(weights)) < 0.005


@pytest.mark.parametrize("weights", [{"a": 7.0}, {"a": 0.55, "b": 0.45}, {"a": 55, "b": 45}, {"a": 1 / 3, "b": 2 / 3}])
def test_shares_percents_and_a_single_weight_are_taken(weights: dict[str, float]) -> None:
    check_weights(weights)


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [
        ({"a": 0.55, "b": 0.2}, r"sum to 0.75 \(a 0.55 \+ b 0.2\).* a=0.733333, b=0.266667"),
        ({"a": 1.0, "b": 1.0}, "sum to 2 "),
        ({"a": 0.5, "b": 0.50001}, "sum to 1.00001 "),
        ({"a": 1.0, "b": 0.0}, "'b' has weight 0"),
        ({"a": 2.0, "b": -1.0}, "'b' has weight -1"),
        ({"a": float("nan")}, "'a' has weight nan"),
    ],
)
def test_weights_that_are_no_mixture_are_refused(weights: dict[str, float], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as refusal:
        check_weights(weights)
    assert "\n" not in str(refusal.value)


@pytest.fixture
def shards(shards_of: MakeShards, tmp_path) -> dict[str, OpenShards]:
    """Text of two subsets of the Pile, and instructions of three sources, in two files each."""
    text = [{"text": f"{name} {n}", "meta": {"pile_set_name": name}} for n in range(20) for name in ("ArXiv", "Github")]
    made = {"text": shards_of(text, "text", documents_per_batch=7, tokens_per_file=100)}
    for name in ("p3", "cot"):
        made[name] = shards_of([{"prompt": f"{name} {n}", "target": f"{n}"} for n in range(9)], name)
    return made


def named(opened: OpenShards, source: str) -> list[int]:
    """Numbers of the documents of a source, one document after another."""
    return [n for n in range(len(opened)) if opened.source(n) == source or opened.source(n).startswith(source + "/")]


def test_names_are_those_of_shards_or_of_sources_within_them(shards: dict[str, OpenShards]) -> None:
    text = shards["text"]
    sources = sorted(text.sources)
    assert len(sources) > 1 and len(text.layout.files) > 1
    selected = select_sources(shards, ["text", "p3", "cot"])
    assert {name: len(each.documents) for name, each in selected.items()} == {"text": 40, "p3": 9, "cot": 9}
    assert selected["text"].shards == "text" and selected["text"].documents is text
    for source in sources:
        key, mine = select_sources({"text": text}, [source])[source]
        assert key == "text"
        numbers = np.arange(len(mine))
        wanted = named(text, source)
        assert 0 < len(wanted) < 40
        assert mine.numbers(numbers).tolist() == wanted
        assert mine.lengths(numbers).tolist() == [len(text.document(n)) for n in wanted]
        assert mine.prompts(numbers).tolist() == [0] * len(wanted) and mine.prompted() == 0
        assert mine.tokens == sum(len(text.document(n)) for n in wanted)
        spans = mine.spans(numbers, np.ones(len(wanted), np.int64), mine.lengths(numbers))
        assert spans.tolist() == [token for n in wanted for token in text.document(n)[1:].tolist()]


def test_names_that_stand_for_nothing_are_refused_with_the_nearest(shards: dict[str, OpenShards]) -> None:
    source = sorted(shards["text"].sources)[0]
    with pytest.raises(ConfigError, match=f"Did you mean {json.dumps(source)[1:-1]!r}"):
        select_sources(shards, [source[:-1], "p3", "cot"])
    with pytest.raises(ConfigError, match="says nothing of the shards 'cot'"):
        select_sources(shards, ["text", "p3"])
    with pytest.raises(ConfigError, match="'text' and 'again' both hold such documents"):
        select_sources({"text": shards["text"], "again": shards["text"]}, [source])
    with pytest.raises(ConfigError, match="holds no source 'nothing'"):
        shards["text"].select("nothing")


def test_shards_that_no_name_can_need_are_left_out() -> None:
    assert needed(["text", "instructions"], ["text"]) == ["text"]
    assert needed(["text", "instructions"], ["pile", "p3"]) == ["text", "instructions"]
