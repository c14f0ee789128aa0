import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.artifacts import KINDS, Corpus, FileEntry, Manifest, ModelVersion, summary
from headrace.errors import IntegrityError

FACTS = Corpus(documents=2, sources={"mill": 1, "wheel": 1})
FILES = {"a.jsonl": FileEntry(bytes=3, sha256="0" * 64), "sub/b.jsonl": FileEntry(bytes=0, sha256="1" * 64)}
SEALED = Manifest(facts=FACTS, files=FILES, parents={"raw": "2" * 64})


def test_a_manifest_is_read_back_as_it_was_written() -> None:
    assert Manifest.from_json(SEALED.to_json(), "here") == SEALED
    assert Manifest.from_json(SEALED.to_json().encode(), "here").digest == SEALED.digest


def test_digest_is_the_hash_of_kind_facts_files_and_parents() -> None:
    values = {
        "facts": {"documents": 2, "references": {}, "sources": {"mill": 1, "wheel": 1}},
        "files": {name: {"bytes": entry.bytes, "sha256": entry.sha256} for name, entry in FILES.items()},
        "kind": "corpus",
        "parents": {"raw": "2" * 64},
    }
    text = json.dumps(values, sort_keys=True, indent=1) + "\n"
    assert SEALED.digest == hashlib.sha256(text.encode()).hexdigest()
    assert json.loads(SEALED.to_json()) == {**values, "digest": SEALED.digest}


def test_digest_does_not_follow_the_order_things_were_said_in() -> None:
    turned = Manifest(
        facts=Corpus(sources={"wheel": 1, "mill": 1}, documents=2), files=dict(reversed(FILES.items())), parents={}
    )
    assert replace(turned, parents={"raw": "2" * 64}).digest == SEALED.digest


@pytest.mark.parametrize(
    "change",
    [
        {"facts": Corpus(documents=3, sources={"mill": 1, "wheel": 1})},
        {"files": {**FILES, "a.jsonl": FileEntry(bytes=3, sha256="3" * 64)}},
        {"files": {"a.jsonl": FILES["a.jsonl"]}},
        {"parents": {"raw": "4" * 64}},
        {"parents": {"cooked": "2" * 64}},
    ],
)
def test_every_part_of_a_manifest_decides_its_digest(change: dict[str, Any]) -> None:
    assert replace(SEALED, **change).digest != SEALED.digest


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_any_altered_byte_of_a_manifest_is_found(place: int, flip: int) -> None:
    text = bytearray(SEALED.to_json().encode())
    text[place % len(text)] ^= flip
    with pytest.raises(IntegrityError, match=r"here/manifest\.json") as caught:
        Manifest.from_json(bytes(text), "here")
    assert "\n" not in str(caught.value)


@given(st.integers(0, 10_000))
def test_a_truncated_manifest_is_found(length: int) -> None:
    text = SEALED.to_json()
    with pytest.raises(IntegrityError, match=r"here/manifest\.json"):
        Manifest.from_json(text[: length % len(text)], "here")


def sealed(**changes: Any) -> str:
    """A manifest whose own digest is right, whatever else it says."""
    values = {key: value for key, value in json.loads(SEALED.to_json()).items() if key != "digest"} | changes
    digest = hashlib.sha256((json.dumps(values, sort_keys=True, indent=1) + "\n").encode()).hexdigest()
    return json.dumps({**values, "digest": digest}, sort_keys=True, indent=1) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        sealed(kind="cake"),
        sealed(kind=["corpus"]),
        sealed(facts={"documents": 2}),
        sealed(facts={"documents": 2, "sources": {}, "layers": 3}),
        sealed(files=["a.jsonl"]),
        sealed(files={"a.jsonl": 3}),
        sealed(files={"a.jsonl": {"bytes": "3", "sha256": "0"}}),
        sealed(files={"/etc/passwd": {"bytes": 3, "sha256": "0"}}),
        sealed(files={"a/../../passwd": {"bytes": 3, "sha256": "0"}}),
        sealed(parents=None),
    ],
)
def test_what_is_no_manifest_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(IntegrityError, match=r"^gs://b/x/manifest\.json is no manifest") as caught:
        Manifest.from_json(text, "gs://b/x")
    assert "\n" not in str(caught.value)


def test_every_kind_has_a_name_of_its_own() -> None:
    assert all(cls.kind == kind for kind, cls in KINDS.items())
    assert len(KINDS) == 12


def test_summary_holds_the_scalar_facts_alone() -> None:
    assert summary(FACTS) == {"documents": 2}
    version = ModelVersion(name="gptj", version=3, alias="champion", checkpoint="c", verdict="v")
    assert summary(version) == {"name": "gptj", "version": 3, "alias": "champion", "checkpoint": "c", "verdict": "v"}
    assert version.uri == "models:/gptj/3"
