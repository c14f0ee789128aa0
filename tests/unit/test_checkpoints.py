import logging
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from headrace import checkpoints, storage
from headrace.artifacts import MODEL_FILE, OPTIMIZER_FILE, STATE_FILE, TOKENIZER_FILE, Checkpoint
from headrace.checkpoints import CheckpointPolicy, Contents
from headrace.errors import ConfigError, UnavailableError


def contents(step: int, tokenizer: Path) -> Contents:
    """A checkpoint whose every value tells its step."""
    facts = Checkpoint(
        step=step, tokens_seen=step, labels_seen=step, model={}, tokenizer="t", mask="causal", config={}, loss=1.0
    )
    return Contents(
        facts=facts,
        parents={"tokenizer": "t"},
        model={"w": torch.full((2, 3), float(step)), "b": torch.tensor(0.5)},
        optimizer={"w/exp_avg": torch.full((2, 3), step / 7)},
        state={"step": step, "data": {"prose": [step, 2]}},
        tokenizer=tokenizer,
    )


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    path = tmp_path / "given.json"
    path.write_text("{}")
    return path


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return checkpoints.workspace_of(tmp_path / "work", {"seed": 1})


def test_what_is_saved_is_read_back_to_the_last_bit(workspace: Path, tokenizer: Path) -> None:
    given = contents(3, tokenizer)
    checkpoints.save(workspace, given)
    path = checkpoints.find_latest(workspace)
    assert path is not None
    for name, tensors in ((MODEL_FILE, given.model), (OPTIMIZER_FILE, given.optimizer)):
        read = checkpoints.read_tensors(path, name)
        assert read.keys() == tensors.keys()
        assert all(torch.equal(read[key], tensors[key]) and read[key].dtype == tensors[key].dtype for key in tensors)
    assert checkpoints.read_state(path) == given.state
    assert (path / TOKENIZER_FILE).read_text() == "{}"
    assert storage.read(path, Checkpoint).facts == given.facts


def test_a_published_one_leaves_out_the_moments(tmp_path: Path, tokenizer: Path) -> None:
    published = replace(contents(3, tokenizer), optimizer=None)
    assert set(checkpoints.write(tmp_path / "out", published).files) == {MODEL_FILE, STATE_FILE, TOKENIZER_FILE}


def test_two_newest_are_kept(workspace: Path, tokenizer: Path) -> None:
    for step in (100, 200, 300, 1000):
        checkpoints.save(workspace, contents(step, tokenizer))
    assert sorted(path.name for path in workspace.iterdir()) == ["step-00000300", "step-00001000"]


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (CheckpointPolicy(newest=1), [800]),
        (CheckpointPolicy(newest=3), [600, 700, 800]),
        (CheckpointPolicy(newest=1, every_steps=300), [300, 600, 800]),
        (CheckpointPolicy(newest=1, best=2), [400, 500, 800]),
        (CheckpointPolicy(newest=2, every_steps=200, best=1), [200, 400, 500, 600, 700, 800]),
    ],
)
def test_the_policy_says_which_are_kept(policy, kept: list[int], workspace: Path, tokenizer: Path) -> None:
    for step in range(100, 900, 100):
        given = contents(step, tokenizer)
        given = replace(given, facts=replace(given.facts, loss=abs(step - 470) / 100))
        checkpoints.save(workspace, given, policy)
    assert sorted(path.name for path in workspace.iterdir()) == [f"step-{step:08d}" for step in kept]


@pytest.mark.parametrize("values", [{"newest": 0}, {"every_steps": -1}, {"best": -1}])
def test_a_policy_that_keeps_nothing_to_resume_from_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="need to be at least 1, 0 and 0"):
        CheckpointPolicy(**values)


@pytest.mark.parametrize("name", [MODEL_FILE, OPTIMIZER_FILE, STATE_FILE, TOKENIZER_FILE, "manifest.json"])
@pytest.mark.parametrize("damage", ["flipped", "short", "missing"])
def test_a_damaged_newest_is_passed_over_with_a_warning(
    name: str, damage: str, workspace: Path, tokenizer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older = checkpoints.save(workspace, contents(100, tokenizer))
    file = checkpoints.save(workspace, contents(200, tokenizer)) / name
    whole = file.read_bytes()
    middle = len(whole) // 2
    if damage == "missing":
        file.unlink()
    else:
        flipped = whole[:middle] + bytes([whole[middle] ^ 0x80]) + whole[middle + 1 :]
        file.write_bytes(flipped if damage == "flipped" else whole[:middle])
    with caplog.at_level(logging.WARNING):
        assert checkpoints.find_latest(workspace) == older
    assert "step-00000200 cannot be resumed from" in caplog.text


@pytest.mark.parametrize("lost", [MODEL_FILE, "manifest.json"])
def test_saving_after_a_fall_back_replaces_the_damaged_and_keeps_the_good(
    workspace: Path, tokenizer: Path, lost: str
) -> None:
    older = checkpoints.save(workspace, contents(100, tokenizer))
    (checkpoints.save(workspace, contents(300, tokenizer)) / lost).unlink()
    assert checkpoints.find_latest(workspace) == older
    newer = checkpoints.save(workspace, contents(200, tokenizer))
    assert checkpoints.find_latest(workspace) == newer
    assert older.exists()
    assert checkpoints.save(workspace, contents(300, tokenizer)) == checkpoints.find_latest(workspace)


def test_an_empty_workspace_has_nothing_to_resume(workspace: Path) -> None:
    assert checkpoints.find_latest(workspace) is None


def test_runs_with_other_arguments_never_meet(tmp_path: Path, tokenizer: Path) -> None:
    one = checkpoints.workspace_of(tmp_path, {"seed": 1, "rows": 2})
    checkpoints.save(one, contents(5, tokenizer))
    assert checkpoints.find_latest(checkpoints.workspace_of(tmp_path, {"seed": 2, "rows": 2})) is None
    same = checkpoints.workspace_of(tmp_path, {"rows": 2, "seed": 1})
    assert checkpoints.find_latest(same) == one / "step-00000005"


def test_what_a_killed_save_left_behind_is_swept_up(tmp_path: Path, tokenizer: Path) -> None:
    home = checkpoints.workspace_of(tmp_path, 1)
    kept = checkpoints.save(home, contents(5, tokenizer))
    (home / "step-00000010.partial-x").mkdir()
    (home / "step-00000010.partial-x" / MODEL_FILE).write_bytes(b"half")
    (home / "losses.jsonl.partial-y").write_text("half")
    with checkpoints.claimed(home):
        assert {path.name for path in home.iterdir()} == {kept.name, "lock"}


def test_two_processes_never_train_in_one_workspace(tmp_path: Path) -> None:
    home = checkpoints.workspace_of(tmp_path, 1)
    script = (
        "import sys\nfrom pathlib import Path\nfrom headrace import checkpoints\n"
        "with checkpoints.claimed(Path(sys.argv[1])):\n    print('claimed')"
    )
    other = [sys.executable, "-c", script, str(home)]
    with checkpoints.claimed(home):
        refused = subprocess.run(other, capture_output=True, text=True)
    assert "another process trains with the same arguments" in refused.stderr
    assert subprocess.run(other, capture_output=True, text=True).stdout == "claimed\n"


def test_equal_contents_have_equal_digests_wherever_they_are_written(tmp_path: Path, tokenizer: Path) -> None:
    first = checkpoints.write(tmp_path / "a", contents(5, tokenizer))
    second = checkpoints.write(tmp_path / "b", contents(5, tokenizer))
    other = checkpoints.write(tmp_path / "c", contents(6, tokenizer))
    assert first.digest == second.digest != other.digest


def test_files_can_be_read_by_another_user(tmp_path: Path, tokenizer: Path) -> None:
    checkpoints.write(tmp_path / "a", contents(5, tokenizer))
    assert all(path.stat().st_mode & stat.S_IROTH for path in (tmp_path / "a").iterdir())


def test_a_disk_without_room_is_told_with_both_numbers(tmp_path: Path) -> None:
    checkpoints.require_room(tmp_path / "new" / "deep", 1)
    with pytest.raises(UnavailableError, match=r"takes 1,000,000,000,000\.0 MB, and the disk of .*deep has [\d,.]+ MB"):
        checkpoints.require_room(tmp_path / "new" / "deep", 10**18)
    assert not (tmp_path / "new").exists()


def test_a_place_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        checkpoints.require_room(tmp_path / "file" / "deep", 0)
