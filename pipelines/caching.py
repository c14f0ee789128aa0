"""KFP's local cache, made to keep its word.

The cache as it comes answers by name: an artifact that was altered, a registry that moved on, a library that
was edited, are served as hits. Here an entry is a hit only where every artifact of it still has the bytes its
manifest seals and still says something true, and a task's key follows the digests of its inputs and of the
code it reaches.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kfp import dsl
from kfp.local.cache import LocalCache

from headrace import registry, storage
from headrace.artifacts import Checkpoint, Corpus, EvalReport, Manifest, ModelVersion, Verdict
from headrace.data import corpus
from headrace.errors import HeadraceError, IntegrityError
from pipelines.code import code_version

REFERENCE = "reference"
"""Where a fetched checkpoint notes the name it was asked for by, which says nothing about its content."""


class VerifiedCache(LocalCache):
    """A `LocalCache` whose entries are re-hashed, and checked against the world, before they answer."""

    on_hit: Callable[[dict[str, Any]], None] = staticmethod(lambda outputs: None)
    """Told the outputs that answered."""
    on_drop: Callable[[str], None] = staticmethod(lambda reason: None)
    """Told why an entry did not."""

    def compute_key(self, component_name: str, image: str, full_command: list[str], arguments: Any, **rest: Any) -> str:
        """Key a task by the content of its inputs and the code it reaches, wherever either lies."""
        # KFP hands over the component's source as one word of the command that starts it.
        versions = [code_version(word) for word in full_command if word.lstrip().startswith("import kfp")]
        command = [*full_command, *versions]
        return super().compute_key(component_name, image, command, by_content(arguments), **rest)

    def get(self, key: str) -> dict[str, Any] | None:
        """Outputs under `key`, if there are any and all of them hold."""
        outputs = super().get(key)
        if outputs is None:
            return None
        try:
            for output in outputs.values():
                if isinstance(output, dsl.Artifact):
                    confirm(output)
        except HeadraceError as error:
            self.on_drop(str(error))
            return None
        self.on_hit(outputs)
        return outputs


def by_content(value: Any) -> Any:
    """Replace every artifact within a task's arguments by its type, its digest and what else was noted of it."""
    if isinstance(value, dsl.Artifact) and "digest" in value.metadata:
        # Not the digest alone: one file encoded for two splits has equal shards, and each joins its own split.
        noted = {key: note for key, note in value.metadata.items() if key != REFERENCE}
        return {"artifact": type(value).schema_title, "metadata": noted}
    if isinstance(value, dict):
        return {key: by_content(item) for key, item in value.items()}
    return [by_content(item) for item in value] if isinstance(value, list) else value


def confirm(artifact: dsl.Artifact) -> None:
    """Check that an artifact is intact and that what it states about the world still holds.

    Numbers for KFP's own pages are nothing but metadata, and its pages are single files.

    Raises:
        HeadraceError: It is altered, or the corpus, champion, alias or reference it speaks of is another by now.
    """
    if isinstance(artifact, dsl.Metrics | dsl.ClassificationMetrics) and "digest" not in artifact.metadata:
        return
    if isinstance(artifact, dsl.HTML | dsl.Markdown):
        _confirm_file(artifact)
        return
    manifest = storage.verify(artifact.uri)
    if manifest.digest != artifact.metadata.get("digest"):
        raise IntegrityError(f"{artifact.uri} was replaced by another artifact.")
    match manifest.facts:
        case Corpus():
            corpus.confirm(manifest.facts)
        case Checkpoint() if REFERENCE in artifact.metadata:
            registry.confirm_reference(artifact.metadata[REFERENCE], manifest.digest)
        case Verdict():
            registry.confirm_verdict(manifest.facts)
            _confirm_evidence(artifact, manifest)
        case ModelVersion():
            registry.confirm_version(manifest.facts)
        case EvalReport() if "incumbent_of" in artifact.metadata:
            registry.confirm_incumbent(
                artifact.metadata["model"], artifact.metadata["incumbent_of"], manifest.facts.checkpoint
            )


def _confirm_evidence(verdict: dsl.Artifact, manifest: Manifest) -> None:
    """Check that what the policy names by its place, which no digest of an input stands for, is what was judged."""
    for role, uri in verdict.metadata.get("evidence", {}).items():
        if not storage.exists(uri) or storage.read_manifest(uri).digest != manifest.parents[role]:
            raise IntegrityError(f"{uri} is another artifact than {verdict.uri} was decided by.")


def _confirm_file(page: dsl.HTML | dsl.Markdown) -> None:
    path = Path(page.path)
    if not path.is_file() or storage.hash_file(path) != page.metadata.get("sha256"):
        raise IntegrityError(f"{page.uri} is missing or altered.")
