"""The reports that a verdict carries, and one that it does not rest on."""

from pathlib import Path

import pytest

from headrace import storage
from headrace.artifacts import EvalReport, Manifest, Metric, Verdict
from headrace.errors import IntegrityError
from headrace.registry.reports import keep_reports, report_on_candidate
from headrace.storage import Stored

VERDICT = Verdict(passed=True, candidate="new", champion=None, model="m", rules=())


def report(value: float) -> Manifest:
    metrics = {"facts/acc": Metric(value=value, stderr=0.1, n=9)}
    return Manifest(facts=EvalReport(checkpoint="new", mask="prefix", metrics=metrics), files={}, parents={})


def seal(folder: Path, kept: dict[str, Manifest], candidate: str) -> Stored[Verdict]:
    with storage.writing(folder) as tree:
        keep_reports(tree.path, kept)
        tree.commit(VERDICT, {"candidate": candidate})
    return storage.read(folder, Verdict)


def test_a_verdict_carries_what_was_measured_of_its_candidate(tmp_path: Path) -> None:
    measured = report(0.75)
    found = report_on_candidate(seal(tmp_path / "v", {"candidate": measured, "base": report(0.5)}, measured.digest))
    assert found is not None
    assert (found.digest, found.facts) == (measured.digest, measured.facts)
    assert report_on_candidate(seal(tmp_path / "none", {"base": report(0.5)}, measured.digest)) is None


def test_another_report_than_the_verdict_rests_on_is_refused(tmp_path: Path) -> None:
    verdict = seal(tmp_path / "v", {"candidate": report(0.99)}, report(0.75).digest)
    with pytest.raises(IntegrityError, match=rf"candidate\.json is not the report {report(0.75).digest[:12]}\."):
        report_on_candidate(verdict)
