"""A policy that asks for no evidence is none."""

from typing import Any

import pytest

from headrace.config import decode, encode
from headrace.errors import ConfigError
from headrace.evaluation.policy import Beat, GateConfig, NonInferiority


def test_a_policy_survives_json() -> None:
    bound = NonInferiority(metric="piqa/acc", margin=0.02)
    beats = (Beat(reference="base", metric="c/d"),)
    asked = {"max_latency_ms": 9.0, "min_items_checked": 0.5, "certificate": "x", "approvers": ("ada",)}
    policy = GateConfig(metric="a/b", floor=0.5, beats=beats, not_worse=(bound,), **asked)
    assert decode(GateConfig, encode(policy)) == policy


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"alpha": 0.5}, "alpha=0.5"),
        ({"alpha": 0.0}, "alpha=0.0"),
        ({"beats": ()}, "beats is empty"),
        ({"min_examples": 1}, "min_examples=1"),
        ({"resamples": 10}, "resamples=10"),
        ({"max_latency_ms": 0.0}, "max_latency_ms=0.0"),
        ({"min_items_checked": 0.0}, "min_items_checked=0.0"),
        ({"min_items_checked": 1.1}, "min_items_checked=1.1"),
        ({"approvers": ("ada", " ")}, "approvers=['ada', ' ']"),
        ({"not_worse": (NonInferiority(metric="piqa/acc", margin=0.0),)}, "margin=0.0 of 'piqa/acc'"),
    ],
)
def test_a_policy_that_would_pass_without_evidence_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        GateConfig(**{"metric": "a/b", **values})
    assert words in str(caught.value)


def test_a_policy_tells_what_the_chain_must_show_and_what_it_names_itself() -> None:
    wanted = GateConfig(metric="a/b", max_latency_ms=9.0, min_items_checked=0.5)
    assert wanted.wanted_evidence() == {"endpoint": "max_latency_ms", "data": "min_items_checked"}
    named = GateConfig(metric="a/b", min_items_checked=0.5, data_reports=("x", "y"), certificate="z")
    assert named.wanted_evidence() == {}
    assert named.stored_evidence() == {"data_0": "x", "data_1": "y", "certificate": "z"}
    assert GateConfig(metric="a/b").stored_evidence() == {}
