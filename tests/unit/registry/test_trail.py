"""The trail says who did what on what evidence, and an altered one is found out."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace import registry, tracking
from headrace.errors import ConfigError, HeadraceError, IntegrityError
from headrace.registry import CHAMPION, PREVIOUS
from headrace.registry import trail as trails
from headrace.registry.versions import known
from tests.candidates import Candidates


def message(error: type[HeadraceError], call: Callable[[], object]) -> str:
    with pytest.raises(error) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rewrite(home: Path, statement: str, *values: str) -> None:
    """Do to MLflow's database what none of its interfaces allows."""
    with sqlite3.connect(home / "mlflow.db") as database:
        assert database.execute(statement, values).rowcount > 0
    database.close()


@pytest.fixture
def three(candidates: Candidates) -> Candidates:
    for step in (1, 2):
        candidates.promote(step)
    registry.rollback("gptj", "it stutters\nbadly")
    return candidates


def test_every_act_is_an_entry_with_who_when_why_and_on_what_evidence(three: Candidates) -> None:
    found = registry.audit("gptj")
    assert [(e.number, e.action, e.version, e.who, e.reason) for e in found.entries] == [
        (1, "promote", 1, "ada", ""),
        (2, "promote", 2, "ada", ""),
        (3, "rollback", 2, "ada", "it stutters badly"),
    ]
    second = found.entries[1]
    versions = registry.versions("gptj")
    assert (second.verdict, second.checkpoint) == (versions[1].tags[registry.VERDICT], versions[1].checkpoint)
    assert (second.champion, second.aliases) == (versions[0].checkpoint, {CHAMPION: 2, PREVIOUS: 1})
    assert [e.before for e in found.entries] == ["", found.entries[0].digest, second.digest]
    assert found.head == f"3 {found.entries[2].digest}"
    assert found.differences == ()


def altered(text: str) -> str:
    return json.dumps({**json.loads(text), "who": "mallory"}, sort_keys=True)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_altered_entry_breaks_the_trail_and_stops_every_act(three: Candidates, number: int) -> None:
    entry = registry.audit("gptj").entries[number - 1]
    rewrite(three.folder, "UPDATE params SET value = ? WHERE key = ?", altered(entry.text), f"entry.00000{number}")
    told = f"The audit trail of gptj is broken at entry {min(number + 1, 3)}: "
    for act in (registry.audit, registry.rollback, registry.champion, registry.versions):
        assert message(IntegrityError, lambda act=act: act("gptj")).startswith(told)
    assert message(IntegrityError, lambda: three.promote(3)).startswith(told)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_removed_entry_breaks_the_trail_also_the_last(three: Candidates, number: int) -> None:
    rewrite(three.folder, "DELETE FROM params WHERE key = ?", f"entry.00000{number}")
    assert f"is broken at entry {number}: " in message(IntegrityError, lambda: registry.audit("gptj"))


def test_an_entry_that_is_no_entry_breaks_the_trail(three: Candidates) -> None:
    run_id = tracking.client().get_registered_model("gptj").tags[trails.TRAIL]
    tracking.client().log_param(run_id, "entry.000004", "{}")
    assert "broken at entry 4" in message(IntegrityError, lambda: registry.audit("gptj"))


def test_another_models_trail_is_not_taken_for_its_own(three: Candidates) -> None:
    three.promote(5, name="other")
    for name in ("other", "gptj"):  # the tag that notes the head goes with it
        tags = tracking.client().get_registered_model(name).tags
        if name == "other":
            borrowed = tags
    for key, value in borrowed.items():
        tracking.client().set_registered_model_tag("gptj", key, value)
    assert "broken at entry 1" in message(IntegrityError, lambda: registry.audit("gptj"))


def test_a_trail_that_is_gone_is_missed(three: Candidates) -> None:
    tracking.client().set_registered_model_tag("gptj", trails.TRAIL, "0" * 32)
    assert "The audit trail of gptj is gone" in message(IntegrityError, lambda: registry.champion("gptj"))


def test_a_trail_whose_run_was_deleted_takes_no_entry(three: Candidates) -> None:
    run_id = tracking.client().get_registered_model("gptj").tags[trails.TRAIL]
    tracking.client().delete_run(run_id)
    assert "takes no entry" in message(IntegrityError, lambda: registry.rollback("gptj"))
    tracking.client().restore_run(run_id)
    registry.rollback("gptj")


def test_of_two_who_add_the_same_entry_one_is_refused(three: Candidates) -> None:
    trail = known("gptj").trail
    assert trail is not None
    facts = {"version": 1, "checkpoint": "c", "verdict": "v", "champion": ""}
    one, other = (trail.next("promote", {CHAMPION: 1}, reason, **facts) for reason in ("mine", "yours"))
    assert trails.append(trail, one)
    assert not trails.append(trail, other)
    assert trails.append(trail, one), "what was sent twice is there once"
    assert registry.audit("gptj").entries[-1].reason == "mine"


def test_an_alias_moved_by_hand_moves_nothing_and_is_put_back(three: Candidates) -> None:
    client = tracking.client()
    client.set_registered_model_alias("gptj", CHAMPION, "2")
    client.set_registered_model_alias("gptj", "mine", "2")
    client.set_model_version_tag("gptj", "1", registry.CHECKPOINT, "f" * 64)
    now = registry.champion("gptj")
    assert now is not None and (now.number, now.checkpoint) == (1, three.checkpoint(1))
    assert registry.resolve("gptj@mine").number == 2
    assert registry.audit("gptj").differences == (
        "Version 1 has another headrace.checkpoint than the trail.",
        "Alias champion names version 2, and the trail has it name version 1.",
    )
    registry.settle("gptj")
    assert registry.audit("gptj").differences == ()
    assert client.get_registered_model("gptj").aliases == {CHAMPION: 1, "mine": 2}


def test_a_model_that_something_else_registered_is_left_alone(candidates: Candidates) -> None:
    client = tracking.client()
    client.create_registered_model("gptj")
    client.create_model_version("gptj", "elsewhere")
    client.set_registered_model_alias("gptj", CHAMPION, "1")
    assert registry.resolve("gptj@champion").number == 1
    for act in (lambda: registry.audit("gptj"), lambda: registry.rollback("gptj"), lambda: candidates.promote(1)):
        assert "has no audit trail" in message(ConfigError, act)
    assert client.get_registered_model("gptj").aliases == {CHAMPION: 1}


def test_a_reason_too_long_to_be_kept_is_refused(three: Candidates) -> None:
    told = message(ConfigError, lambda: registry.rollback("gptj", "why " * 2000))
    assert "The reason (8,000 characters)" in told and "MLflow keeps 6,000" in told
    assert len(registry.audit("gptj").entries) == 3
