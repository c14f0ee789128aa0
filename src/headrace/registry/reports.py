"""The reports that a verdict rests on, as it carries them: their manifests, which hold every metric.

They travel with the verdict into the registry, so that what a version was promoted on can be read where the reports
themselves are gone; only the scores of single examples are not among it.
"""

from collections.abc import Mapping
from pathlib import Path

from headrace.artifacts import EvalReport, Manifest, Verdict
from headrace.errors import IntegrityError
from headrace.storage import Stored

FOLDER = "reports"
CANDIDATE = "candidate"
"""Role of the report on what the verdict is about."""


def keep_reports(directory: Path, reports: Mapping[str, Manifest]) -> None:
    """Write manifests of reports, by role, into the directory of a verdict that is being sealed."""
    (directory / FOLDER).mkdir()
    for role, manifest in reports.items():
        (directory / FOLDER / f"{role}.json").write_text(manifest.to_json(), encoding="utf-8")


def report_on_candidate(verdict: Stored[Verdict]) -> Stored[EvalReport] | None:
    """What was measured of the candidate; None where the verdict does not carry its report.

    Raises:
        IntegrityError: It carries another report than it rests on.
    """
    name = f"{FOLDER}/{CANDIDATE}.json"
    if name not in verdict.manifest.files:
        return None
    manifest = Manifest.from_json((verdict.path / name).read_bytes(), str(verdict.path / name))
    rests_on = verdict.manifest.parents.get(CANDIDATE)
    if not isinstance(manifest.facts, EvalReport) or manifest.digest != rests_on:
        raise IntegrityError(f"{verdict.path / name} is not the report {str(rests_on)[:12]}. Run the gate again.")
    return Stored(verdict.path / FOLDER, manifest.facts, manifest)
