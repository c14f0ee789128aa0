"""A version's checkpoint, brought to this machine and verified."""

import shutil
import urllib.parse
from pathlib import Path

from headrace import storage
from headrace.artifacts import Checkpoint, EvalReport, Manifest, Verdict
from headrace.errors import IntegrityError
from headrace.mlflow_server import client, told_plainly
from headrace.registry.marks import VERDICT
from headrace.registry.registration import VERDICT_FOLDER
from headrace.registry.reports import report_on_candidate
from headrace.registry.versions import Version, resolve
from headrace.storage import Stored


def fetch(version: Version) -> Path:
    """Bring a version's checkpoint to this machine and verify every file of it.

    Files that lie on this machine already are read where they lie; others are kept in the cache.

    Raises:
        IntegrityError: The files are not the ones that were registered.
    """
    source = client().get_model_version_download_uri(version.name, str(version.number))
    if urllib.parse.urlsplit(source).scheme not in ("", "file"):
        return storage.cached(version.checkpoint, lambda path: _download(source, path), version.uri)
    stored = storage.read(urllib.parse.unquote(urllib.parse.urlsplit(source).path), Checkpoint)
    if stored.digest != version.checkpoint:
        raise IntegrityError(
            f"{version.uri} holds checkpoint {stored.digest[:12]}, and {version.checkpoint[:12]} was registered. "
            "Promote it again."
        )
    return stored.path


def fetch_verdict(version: Version, directory: Path) -> Path:
    """Bring the verdict that a version was registered with to a directory, verified.

    Raises:
        IntegrityError: It is not the one that was registered.
    """
    with told_plainly():
        place = Path(client().download_artifacts(version.run_id, VERDICT_FOLDER, str(directory)))
    if storage.read(place, Verdict).digest != version.tags.get(VERDICT):
        raise IntegrityError(f"{version.uri} was registered with another verdict than lies beside it. Run the gate.")
    return place


def fetch_report(version: Version, directory: Path) -> Stored[EvalReport] | None:
    """Bring the report that a version was promoted on to a directory, verified; None where it is gone.

    It holds every metric, and not the scores of single examples.

    Raises:
        IntegrityError: The verdict that carries it is not the one that was registered.
    """
    if not version.run_id or not client().list_artifacts(version.run_id, VERDICT_FOLDER):
        return None
    return report_on_candidate(storage.read(fetch_verdict(version, directory), Verdict))


def _download(source: str, directory: Path) -> None:
    import mlflow

    with told_plainly():
        arrived = Path(mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(directory)))
    if arrived != directory:
        for path in list(arrived.iterdir()):
            path.rename(directory / path.name)
        arrived.rmdir()


def copy_checkpoint(reference: str, output_uri: str | Path) -> Manifest:
    """Copy a registered version or a stored checkpoint, verified, digest and all.

    Args:
        reference: `NAME@alias`, `NAME/NUMBER`, a directory or `gs://bucket/prefix`.
        output_uri: Where the copy goes.

    Raises:
        ConfigError: The reference names no version.
        IntegrityError: The files are not the ones recorded.
    """
    stands = storage.exists(reference)
    stored = storage.read(reference if stands else fetch(resolve(reference)), Checkpoint)
    with storage.writing(output_uri) as tree:
        for name in stored.manifest.files:  # and nothing else that may lie beside them
            (tree.path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(stored.path / name, tree.path / name)
        return tree.commit(stored.facts, stored.manifest.parents)
