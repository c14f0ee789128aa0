import dataclasses
import random
import statistics

import pytest

from headrace.artifacts import Metric
from headrace.evaluation.config import EvalConfig, TaskConfig
from headrace.evaluation.scores import Measured
from headrace.evaluation.subjects import over_subjects

SUBJECT = TaskConfig(kind="mmlu", data="rows")
CONFIG = EvalConfig(tasks={"algebra": SUBJECT, "piqa": TaskConfig(kind="piqa", data="rows"), "law": SUBJECT})


def measured(right: list[int]) -> Measured:
    stderr = statistics.stdev(right) / len(right) ** 0.5
    return Measured({"acc": Metric(value=statistics.mean(right), stderr=stderr, n=len(right))}, [])


def test_subjects_count_by_their_questions() -> None:
    chance = random.Random(1)
    law, algebra = ([int(chance.random() < share) for _ in range(n)] for share, n in ((0.6, 900), (0.5, 300)))
    found = {"law": measured(law), "algebra": measured(algebra), "piqa": measured([0, 0, 1])}
    (both,) = over_subjects(CONFIG, found).items()
    assert both[0] == "mmlu/acc"
    assert (both[1].n, both[1].value) == (1200, pytest.approx(statistics.mean(law + algebra)))
    # Pooled within the subjects, which leaves out how far their means lie apart.
    assert both[1].stderr == pytest.approx(statistics.stdev(law + algebra) / 1200**0.5, rel=0.01)


@pytest.mark.parametrize(
    "tasks",
    [
        {"algebra": SUBJECT},
        {"algebra": SUBJECT, "mmlu": SUBJECT},
        {"algebra": SUBJECT, "law": dataclasses.replace(SUBJECT, num_fewshot=5, fewshot="shots")},
    ],
)
def test_one_subject_a_taken_name_or_other_shots_have_no_number_in_common(tasks: dict[str, TaskConfig]) -> None:
    found = {name: measured([0, 1, 1]) for name in tasks}
    assert over_subjects(EvalConfig(tasks=tasks), found) == {}
