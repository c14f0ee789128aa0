"""What is left where a file system cannot do what is asked of it; the rest is shown by `test_storage.py`."""

from pathlib import Path

import pytest

from headrace import atomic


def folder(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "file").write_text(text)
    return path


@pytest.mark.parametrize("exchanges", [True, False])
def test_what_was_there_before_stands_under_the_staged_name_or_is_gone(
    exchanges: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchanges:
        monkeypatch.setattr(atomic, "EXCHANGE", 2**20)  # a flag no kernel knows
    target, staged = folder(tmp_path / "target", "old"), folder(tmp_path / "staged", "new")
    atomic.publish(staged, target)
    assert (target / "file").read_text() == "new"
    assert {path.name for path in tmp_path.iterdir()} == ({"target", "staged"} if exchanges else {"target"})


def test_the_old_comes_back_where_the_new_cannot_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "EXCHANGE", 2**20)
    target, staged = folder(tmp_path / "target", "old"), folder(tmp_path / "staged", "new")
    rename = Path.rename

    def refuse(path: Path, to: Path) -> Path:
        if path == staged:
            raise OSError("read-only")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="read-only"):
        atomic.publish(staged, target)
    assert (target / "file").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"target", "staged"}


def test_a_place_that_cannot_be_written_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        atomic.publish(folder(tmp_path / "staged", "new"), tmp_path / "none" / "target")
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError):
        atomic.write_text(tmp_path / "file", "text")
    assert {path.name for path in tmp_path.iterdir()} == {"staged", "file"}
