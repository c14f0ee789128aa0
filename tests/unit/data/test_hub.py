import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.data import hub
from headrace.data.documents import list_sources, read_documents
from headrace.data.quarantine import Quarantine
from headrace.errors import ConfigError, DataError, UnavailableError

datasets = pytest.importorskip("datasets")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, whatever the machine has, and a cache of its own."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.parent


@pytest.mark.parametrize(
    ("uri", "wanted"),
    [
        ("hub:imdb", ("imdb", None, "train")),
        ("hub:monology/pile-uncopyrighted:validation", ("monology/pile-uncopyrighted", None, "validation")),
        ("hub:bigscience/P3/imdb_Sentiment:test", ("bigscience/P3", "imdb_Sentiment", "test")),
        ("hub:bigscience/P3/imdb_Sentiment", ("bigscience/P3", "imdb_Sentiment", "train")),
    ],
)
def test_a_name_has_a_configuration_and_a_split(uri: str, wanted: tuple[str, str | None, str]) -> None:
    found = hub.parse_name(uri)
    assert (found.name, found.config, found.split) == wanted


@pytest.mark.parametrize("uri", ["hub:", "hub::train", "hub:/", "hub:a/b/c/d"])
def test_what_is_no_name_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"names no data set\. Write hub:OWNER/NAME"):
        hub.parse_name(uri)


def test_rows_become_documents_by_the_same_formats(tmp_path: Path, offline: None) -> None:
    pile = [{"text": "a", "meta": {"pile_set_name": "ArXiv"}}, {"text": "b", "meta": {"pile_set_name": "Github"}}]
    uri = f"hub:{write_rows(tmp_path / 'pile/train.jsonl', pile)}"
    found = list(read_documents(uri, source="pile", format="pile"))
    assert [(row.source, row.text, row.file, row.line) for row in found] == [
        ("pile/ArXiv", "a", f"{uri}:train", 1),
        ("pile/Github", "b", f"{uri}:train", 2),
    ]
    p3 = [{"inputs_pretokenized": "Good?", "targets_pretokenized": "Yes"}]
    folder = write_rows(tmp_path / "sciq_Direct/test.jsonl", p3)
    (row,) = read_documents(f"hub:{folder}:test", source="p3")
    assert (row.source, row.prompt, row.target) == ("p3/sciq_Direct", "Good?", " Yes")


def test_rows_that_are_no_documents_are_set_apart(tmp_path: Path, offline: None) -> None:
    folder = write_rows(tmp_path / "rows/train.jsonl", [{"text": "a"}, {"text": ""}, {"text": None}, {"text": "b"}])
    quarantine = Quarantine(1.0)
    found = list(read_documents(f"hub:{folder}", quarantine=quarantine))
    assert [(row.source, row.text, row.line) for row in found] == [("rows", "a", 1), ("rows", "b", 4)]
    assert [(fault.line, fault.reason) for fault in quarantine.faults] == [
        (2, "has an empty 'text'"),
        (3, "has a 'text' of type NoneType, not text"),
    ]


def test_a_data_set_that_was_a_script_is_read_from_the_hubs_own_copy(
    tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two folders stand for two revisions of one data set, the older a script, which `datasets` itself refuses."""
    write_rows(tmp_path / "script/raft/train.jsonl", [{"text": "script"}])
    (tmp_path / "script/raft/raft.py").write_text("raise SystemExit\n")
    write_rows(tmp_path / "copy/raft/train.jsonl", [{"text": "copy"}])

    def stand_in(open_as: Callable[..., Any]) -> Callable[..., Any]:
        def opened(name: str, config: str | None, revision: str = "main", **options: Any) -> Any:
            kept = {"main": "script", "refs/convert/parquet": "copy"}[revision]
            return open_as(name.replace("ought", str(tmp_path / kept)), config, **options)

        return opened

    for name in ("load_dataset", "load_dataset_builder"):
        monkeypatch.setattr(datasets, name, stand_in(getattr(datasets, name)))
    assert list(hub.rows("hub:ought/raft")) == [{"text": "copy"}]
    assert hub.state("hub:ought/raft") == hub.state(f"hub:{tmp_path}/copy/raft")
    with pytest.raises(DataError, match=r"scripts are no longer supported, but found raft\.py"):
        list(hub.rows(f"hub:{tmp_path}/script/raft"))


def test_columns_are_told_in_their_order_with_the_names_of_their_classes(tmp_path: Path, offline: None) -> None:
    classes = datasets.ClassLabel(names=["no", "yes"])
    features = datasets.Features({"b": datasets.Value("string"), "a": classes})
    (tmp_path / "rows").mkdir()
    datasets.Dataset.from_list([{"b": "x", "a": 1}], features=features).to_parquet(tmp_path / "rows/train.parquet")
    assert list(hub.columns(f"hub:{tmp_path}/rows").items()) == [("b", []), ("a", ["no", "yes"])]


def test_a_relative_folder_is_the_same_from_elsewhere(
    tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "rows/train.jsonl", [{"text": "a"}])
    monkeypatch.chdir(tmp_path)
    assert list_sources("hub:./rows") == [f"hub:{tmp_path}/rows:train"]


def test_the_state_of_a_folder_changes_with_it(tmp_path: Path, offline: None) -> None:
    folder = write_rows(tmp_path / "rows/train.jsonl", [{"text": "a"}])
    before = hub.state(f"hub:{folder}")
    assert hub.state(f"hub:{folder}") == before
    write_rows(tmp_path / "rows/more/train.jsonl", [{"text": "b"}])
    assert hub.state(f"hub:{folder}") != before


def test_a_hub_that_cannot_be_reached_is_one_line(offline: None) -> None:
    with pytest.raises(UnavailableError, match=r"hub:nobody/nothing:train cannot be reached") as refusal:
        list(read_documents("hub:nobody/nothing"))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["rows:validation", "rows/other:train", "nowhere:train"])
def test_a_split_configuration_or_folder_that_is_not_there_is_refused(name: str, tmp_path: Path, offline: None) -> None:
    write_rows(tmp_path / "rows/train.jsonl", [{"text": "a"}])
    with pytest.raises(DataError, match=r"cannot be read .* Check its name, configuration and split") as refusal:
        list(read_documents(f"hub:{tmp_path}/{name}"))
    assert "\n" not in str(refusal.value)


def test_rows_that_break_off_are_refused(tmp_path: Path, offline: None) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows/train.jsonl").write_text('{"text": "a"\n{"text": "b"}\n')
    with pytest.raises(DataError, match="cannot be read"):
        list(read_documents(f"hub:{tmp_path}/rows"))


def test_a_format_that_is_not_made_of_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read as 'flan_cot'"):
        list(read_documents(f"hub:{tmp_path}", format="flan_cot"))
