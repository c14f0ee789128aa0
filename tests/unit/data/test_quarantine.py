import pytest

from headrace.data import quarantine as module
from headrace.data.quarantine import Fault, Quarantine
from headrace.errors import ConfigError, DataError


def filled(faulty: int, good: int, limit: float = 0.001) -> Quarantine:
    quarantine = Quarantine(limit)
    for line in range(1, faulty + 1):
        quarantine.add("a.jsonl", line, "is blank")
    quarantine.seen(good)
    return quarantine


@pytest.mark.parametrize(
    ("faulty", "good", "limit"), [(0, 0, 0.001), (0, 9, 0.0), (1, 999, 0.001), (3, 2997, 0.001), (7, 0, 1.0)]
)
def test_a_fraction_up_to_the_limit_passes(faulty: int, good: int, limit: float) -> None:
    filled(faulty, good, limit).check()


@pytest.mark.parametrize(
    ("faulty", "good", "limit"), [(1, 9, 0.001), (1, 998, 0.001), (2, 1000, 0.001), (1, 0, 0.5), (1, 10**9, 0.0)]
)
def test_a_fraction_above_it_is_refused(faulty: int, good: int, limit: float) -> None:
    with pytest.raises(DataError, match=f"{faulty} of .* documents cannot be used"):
        filled(faulty, good, limit).check()


def test_the_refusal_names_the_first_few_and_counts_the_others() -> None:
    quarantine = Quarantine()
    for line, reason in enumerate(["is blank", "has no 'text'", "is broken JSON (x)", "is blank", "is blank"], start=1):
        quarantine.add("a.jsonl", line, reason)
    quarantine.seen(95)
    with pytest.raises(DataError) as refusal:
        quarantine.check()
    assert str(refusal.value) == (
        "5 of 100 documents cannot be used, 5 %, and the limit is 0.1 %: a.jsonl:1 is blank; a.jsonl:2 has no 'text'; "
        "a.jsonl:3 is broken JSON (x); and 2 more. Repair them, or raise quarantine_limit."
    )
    assert quarantine.faults[1] == Fault("a.jsonl", 2, "has no 'text'")


def test_a_fault_of_a_whole_file_has_no_line() -> None:
    assert str(Fault("task1.json", 0, "has no instances")) == "task1.json has no instances"


def test_a_corpus_that_is_all_faults_is_given_up_before_it_fills_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MANY", 100)
    filled(99, 0)
    with pytest.raises(DataError, match="100 of 100 documents"):
        filled(100, 0)
    quarantine = Quarantine()
    quarantine.seen(10**6)
    for line in range(500):
        quarantine.add("a.jsonl", line, "is blank")
    quarantine.check()


@pytest.mark.parametrize("limit", [-0.1, 1.1, float("nan")])
def test_a_limit_that_is_no_fraction_is_refused(limit: float) -> None:
    with pytest.raises(ConfigError, match=r"^quarantine_limit=\S+ is no fraction"):
        Quarantine(limit)
