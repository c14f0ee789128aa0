"""`headrace data trace` on a checkpoint of a real, small run."""

import json
import shutil
from pathlib import Path

import pytest

from headrace import storage
from headrace.artifacts import LEDGER_FILE
from headrace.cli.app import run_app
from headrace.data.documents import read_documents
from headrace.data.loader import LoaderConfig, SourceConfig
from headrace.data.shards import ShardConfig, open_shards, write_shards
from headrace.data.tokenizer import TokenizerConfig, train_tokenizer
from headrace.models.gptj import GPTJConfig
from headrace.tracking import Tracker
from headrace.training.config import TrainConfig
from headrace.training.loop import train

STEPS = 4
MIXTURE = {
    "text": SourceConfig(weight=0.6, objective="ul2"),
    "asked": SourceConfig(weight=0.4, objective="instruction"),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Corpora, shards and a checkpoint trained on them."""
    root = tmp_path_factory.mktemp("traced")
    lines = {
        "text": [{"text": f"the wheel turns {n} times and stops"} for n in range(40)],
        "asked": [{"prompt": f"{n} plus one is", "target": f" {n + 1}"} for n in range(40)],
    }
    for name, documents in lines.items():
        (root / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in documents))
    train_tokenizer([str(root / "text.jsonl")], root / "tokenizer", TokenizerConfig(vocabulary=280))
    for name in lines:
        write_shards(
            read_documents(str(root / f"{name}.jsonl")), root / "tokenizer", root / f"{name}-shards", ShardConfig()
        )
    config = TrainConfig(
        model=GPTJConfig(vocab_size=320, n_layer=1, d_model=32, n_head=2, d_ff=64, rotary_dim=8, context_tokens=48),
        data=LoaderConfig(context_tokens=48, rows=4, sources=MIXTURE, window_rows=8),
        steps=STEPS,
        microbatch_rows=4,
    )
    sources = {name: str(root / f"{name}-shards") for name in lines}
    paths = (str(root / "tokenizer"), str(root / "made"))
    train(sources, *paths, config, workspace=root / "work", tracker=Tracker())
    return root


def traced(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict]:
    assert run_app(["data", "trace", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_step_lists_its_documents_and_a_document_its_steps(root: Path, capsys) -> None:
    checkpoint = ["--checkpoint", str(root / "made")]
    every = [record for n in range(1, STEPS + 1) for record in traced(capsys, *checkpoint, "--step", str(n))]
    assert {record["step"] for record in every} == set(range(1, STEPS + 1))
    assert {record["row"] for record in every} == set(range(4))
    opened = {name: open_shards(root / f"{name}-shards") for name in MIXTURE}
    for record in every:
        shards = opened[record["shards"]]
        assert record["source"] == record["shards"]
        assert 0 <= record["start"] < record["stop"] <= len(shards.document(record["number"]))
        assert record["document"] == shards.origin(record["number"])
    for document in {record["document"] for record in every[:20]}:
        found = traced(capsys, *checkpoint, "--document", document)
        assert found == [record for record in every if record["document"] == document]
    assert traced(capsys, *checkpoint, "--document", "nowhere.jsonl:3") == []


def test_a_trace_is_a_table_for_readers(root: Path, capsys) -> None:
    assert run_app(["data", "trace", "--checkpoint", str(root / "made"), "--step", "2"]) == 0
    said = capsys.readouterr().out
    assert "source" in said and "text" in said and f"1 of {STEPS} steps" in said
    assert run_app(["data", "trace", "--checkpoint", str(root / "made"), "--document", "no:1"]) == 0
    assert f"None of {STEPS} steps was fed no:1." in capsys.readouterr().out


def test_a_changed_ledger_is_detected(root: Path, tmp_path: Path, capsys) -> None:
    shutil.copytree(root / "made", tmp_path / "made")
    changed = bytearray((tmp_path / "made" / LEDGER_FILE).read_bytes())
    changed[len(changed) // 2] ^= 4
    (tmp_path / "made" / LEDGER_FILE).write_bytes(changed)
    assert run_app(["data", "trace", "--checkpoint", str(tmp_path / "made"), "--step", "1"]) == 1
    assert f"{LEDGER_FILE} is altered" in capsys.readouterr().err


def test_changed_shards_are_detected(root: Path, tmp_path: Path, capsys) -> None:
    trace = ["data", "trace", "--checkpoint", str(root / "made"), "--step", "1", "--shards"]
    assert run_app([*trace, str(root / "text-shards"), "--shards", str(root / "asked-shards")]) == 0
    shutil.copytree(root / "text-shards", tmp_path / "bits")
    tokens = next((tmp_path / "bits").glob("*.tokens"))
    tokens.write_bytes(tokens.read_bytes()[:-2] + b"\x07\x00")
    (root / "other.jsonl").write_text('{"text": "another text"}\n')
    write_shards(read_documents(str(root / "other.jsonl")), root / "tokenizer", tmp_path / "others", ShardConfig())
    capsys.readouterr()
    for uri, complaint in ((tmp_path / "bits", "altered"), (tmp_path / "others", "Give the shards of the run")):
        assert run_app([*trace, str(uri)]) == 1
        assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "Give one of --step and --document"),
        (["--step", "1", "--document", "a:1"], "Give one of --step and --document"),
        (["--step", "0"], f"Give one from 1 to {STEPS}"),
        (["--step", "5"], f"Give one from 1 to {STEPS}"),
    ],
)
def test_questions_without_an_answer_are_refused(root: Path, arguments: list[str], complaint: str, capsys) -> None:
    assert run_app(["data", "trace", "--checkpoint", str(root / "made"), *arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_resumable_checkpoints_hold_the_ledger_of_their_steps(root: Path) -> None:
    from headrace.data.ledger import Ledger

    assert LEDGER_FILE in storage.read_manifest(root / "made").files
    assert Ledger(root / "made" / LEDGER_FILE).steps == STEPS


def altered(root: Path, place: Path, without: str = "", **parents: str) -> Path:
    """A checkpoint whose own seal is right, and whose manifest names something else."""
    known = storage.read_manifest(root / "made")
    with storage.writing(place) as tree:
        for name in known.files.keys() - {without}:
            shutil.copyfile(root / "made" / name, tree.path / name)
        tree.commit(known.facts, known.parents | parents)
    return place


def test_a_ledger_of_other_shards_than_the_manifest_names_and_a_missing_one_are_refused(
    root: Path, tmp_path: Path, capsys
) -> None:
    trace = ["data", "trace", "--step", "1", "--checkpoint"]
    assert run_app([*trace, str(altered(root, tmp_path / "same"))]) == 0
    capsys.readouterr()
    assert run_app([*trace, str(altered(root, tmp_path / "other", shards_text="0" * 64))]) == 1
    assert "is of other shards 'text'" in capsys.readouterr().err
    assert run_app([*trace, str(altered(root, tmp_path / "none", without=LEDGER_FILE))]) == 1
    assert f"has no {LEDGER_FILE}: it was not trained by this version. Give another." in capsys.readouterr().err
