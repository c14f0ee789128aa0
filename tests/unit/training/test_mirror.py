"""Runs whose workspace is lost with its machine, and mirrors that refuse."""

import json
import logging
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from headrace import buckets, checkpoints, storage, transfer
from headrace.artifacts import MODEL_FILE, STATE_FILE, Checkpoint
from headrace.checkpoints import CheckpointPolicy
from headrace.errors import UnavailableError
from headrace.tracking import Tracker
from headrace.training.loop import train
from headrace.training.mirror import MIRROR


class Lost(Exception):
    """The machine is gone."""


class Machine(Tracker):
    """Is lost at a step; remembers the first that it took."""

    def __init__(self, lost_at: int = 0) -> None:
        self.lost_at, self.first = lost_at, 0

    def metrics(self, values, step=None) -> None:
        self.first = self.first or step
        if step == self.lost_at:
            raise Lost


@pytest.fixture(params=["directory", "bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A mirror that the environment names."""
    place = str(tmp_path / "mirror") if request.param == "directory" else request.getfixturevalue("bucket")
    monkeypatch.setenv(MIRROR, place)
    return place


def config_of(tiny, **changes):
    return replace(tiny.config, **{"steps": 20, "checkpoint_every_steps": 4, "log_every_steps": 1} | changes)


def run(tiny, folder: Path, machine: Machine, **changes) -> None:
    train(**tiny.arguments(folder / "out", folder / "work", config=config_of(tiny, **changes)), tracker=machine)


def mirrored(root: str) -> list[str]:
    (about,) = [uri for uri in listed(root) if uri.endswith("/run.json")]
    return transfer.names(about.removesuffix("/run.json"))


def listed(root: str) -> list[str]:
    return buckets.list_objects(root) if buckets.is_bucket(root) else [str(p) for p in Path(root).rglob("*.*")]


@pytest.fixture(scope="module")
def straight(tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("straight")
    run(tiny, folder, Machine())
    return folder


def test_a_run_that_has_lost_its_workspace_goes_on_from_the_mirror_to_the_same_bits(
    tiny, root: str, tmp_path: Path, straight: Path
) -> None:
    with pytest.raises(Lost):
        run(tiny, tmp_path, Machine(lost_at=15))
    assert mirrored(root) == ["step-00000008", "step-00000012"]
    shutil.rmtree(tmp_path / "work")
    second = Machine()
    run(tiny, tmp_path, second)
    assert second.first == 13
    assert storage.verify(tmp_path / "out").digest == storage.verify(straight / "out").digest
    (last,), (expected,) = (folder.glob("work/*/step-00000020") for folder in (tmp_path, straight))
    assert storage.verify(last).digest == storage.verify(expected).digest


def test_a_damaged_copy_is_passed_over(
    tiny, tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(MIRROR, str(tmp_path / "mirror"))
    with pytest.raises(Lost):
        run(tiny, tmp_path, Machine(lost_at=15))
    shutil.rmtree(tmp_path / "work")
    (state,) = tmp_path.glob(f"mirror/*/step-00000012/{STATE_FILE}")
    state.write_text("{}")
    second = Machine()
    with caplog.at_level(logging.WARNING):
        run(tiny, tmp_path, second)
    assert second.first == 9
    assert "step-00000012 of the mirror cannot be resumed from" in caplog.text
    assert storage.verify(tmp_path / "out").digest == storage.verify(straight / "out").digest


def test_a_workspace_that_is_ahead_of_the_mirror_is_resumed_from(tiny, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(Lost):
        run(tiny, tmp_path, Machine(lost_at=15))
    monkeypatch.setenv(MIRROR, str(tmp_path / "mirror"))
    second = Machine()
    run(tiny, tmp_path, second)
    assert second.first == 13


def test_the_policy_holds_in_the_mirror_and_decides_nothing_that_is_computed(
    tiny, root: str, tmp_path: Path, straight: Path
) -> None:
    run(tiny, tmp_path, Machine(), checkpoints=CheckpointPolicy(newest=1, every_steps=8))
    kept = ["step-00000008", "step-00000016", "step-00000020"]
    assert mirrored(root) == kept
    (home,) = (tmp_path / "work").iterdir()
    assert [path.name for path in sorted(home.glob("step-*"))] == kept
    assert (tmp_path / "out" / MODEL_FILE).read_bytes() == (straight / "out" / MODEL_FILE).read_bytes()
    assert [path.name for path in (straight / "work").iterdir()] == [home.name]


def test_a_mirror_says_which_run_it_is_of(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MIRROR, str(tmp_path / "mirror"))
    run(tiny, tmp_path, Machine())
    (about,) = tmp_path.glob("mirror/*/run.json")
    assert json.loads(about.read_text())["inputs"].keys() >= {"tokenizer", "shards_prose"}


@pytest.mark.parametrize("place", ["gs://nowhere/x", "/proc/nothing"])
def test_a_mirror_that_cannot_be_written_is_refused_before_the_first_step(
    place: str, tiny, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MIRROR, place)
    machine = Machine()
    with pytest.raises(UnavailableError, match=place):
        run(tiny, tmp_path, machine)
    assert not machine.first


class Outage(Machine):
    """The bucket falls silent at a step."""

    def __init__(self, begin: int, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.begin, self.monkeypatch = begin, monkeypatch

    def metrics(self, values, step=None) -> None:
        super().metrics(values, step)
        if step == self.begin:
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", 0))
                port = listener.getsockname()[1]
            self.monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
            buckets._client.cache_clear()


def test_a_bucket_that_falls_silent_is_borne_with_and_then_ends_the_run_in_one_line(
    tiny, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(MIRROR, bucket)
    monkeypatch.setattr(buckets, "QUESTION_SECONDS", 0.1)
    monkeypatch.setattr(buckets, "CONTENT_SECONDS", 0.1)
    with caplog.at_level(logging.WARNING), pytest.raises(UnavailableError) as told:
        run(tiny, tmp_path, Outage(7, monkeypatch), steps=100)
    assert str(told.value).startswith(f"3 checkpoints in a row could not be copied: {bucket}/")
    assert "\n" not in str(told.value)
    assert sum("stands in" in record.message for record in caplog.records) == 2
    (home,) = (tmp_path / "work").iterdir()
    newest = checkpoints.find_latest(home)
    assert newest is not None
    assert storage.read(newest, Checkpoint).facts.step >= 12
