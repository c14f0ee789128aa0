"""What was measured is told by the same fingerprints as what was looked for in the training data."""

import json
from pathlib import Path

import pytest

from headrace import storage
from headrace.artifacts import EvalReport
from headrace.data.corpus import CorpusConfig, gather_corpus, splits
from headrace.data.filtering.items import item_files
from headrace.data.source_files import SourceFiles
from headrace.evaluation.config import EvalConfig, TaskConfig
from headrace.evaluation.details import describe, measured_files, write_details
from headrace.storage import Stored

FILES = {
    "piqa.jsonl": '{"goal": "g", "sol1": "a", "sol2": "b"}\n',
    "piqa-labels.lst": "0\n",
    "tweets/task.json": '{"name": "tweets", "data_columns": ["Tweet"], "label_columns": {"Label": ["a", "b"]}}',
    "tweets/train.csv": "Tweet,Label\nx,a\n",
    "prompt_construction_settings.jsonl": "{}\n{}\n",
    "exam/train.jsonl": '{"prompt": "p", "target": "t"}\n',
    "prose.jsonl": '{"text": "one"}\n',
    "trained.jsonl": '{"prompt": "q", "target": "u"}\n',
}
CONFIG = EvalConfig(
    tasks={
        "piqa": TaskConfig(kind="piqa", data="piqa"),
        "raft": TaskConfig(kind="raft", data="tweets"),
        "exam": TaskConfig(kind="exact_match", data="exam", num_fewshot=1, fewshot="instructions"),
    },
    perplexity={"prose": "prose"},
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    named = {
        "piqa": "piqa.jsonl",
        "tweets": "tweets/task.json",
        "prose": "prose.jsonl",
        "instructions": "trained.jsonl",
    }
    hub = SourceFiles(uri=f"hub:{tmp_path}/exam", format="jsonl", split="exam")
    files = {split: str(tmp_path / file) for split, file in named.items()}
    gather_corpus(CorpusConfig(files=files, sources={"exam": hub}), tmp_path / "corpus")
    return tmp_path / "corpus"


def reported(uri: Path, config: EvalConfig, corpus: Path) -> Stored[EvalReport]:
    with storage.writing(uri) as tree:
        write_details(tree.path, describe(config, splits(corpus)))
        tree.commit(EvalReport(checkpoint="c", mask="causal", metrics={}))
    return storage.read(uri, EvalReport)


def test_all_that_is_measured_on_a_corpus_is_looked_for_in_it(corpus: Path, tmp_path: Path) -> None:
    measured = list(measured_files(reported(tmp_path / "report", CONFIG, corpus)))
    assert {(one.name, one.data) for one in measured} == {
        ("piqa", "piqa"), ("raft", "tweets"), ("exam", "exam"), ("prose", "prose"),
    }  # fmt: skip
    assert len(measured) == 2 + 3 + 1 + 1  # rows and labels; rows, task and settings; one each
    assert {one.fingerprint for one in measured} == {file for files in item_files(corpus).values() for file in files}


def test_a_file_that_differs_by_a_byte_is_another(corpus: Path, tmp_path: Path) -> None:
    looked_for = item_files(corpus)["prose"]
    (tmp_path / "prose.jsonl").write_text('{"text": "two"}\n')
    files = {"prose": str(tmp_path / "prose.jsonl")}
    gather_corpus(CorpusConfig(files=files), tmp_path / "later")
    (one,) = measured_files(
        reported(tmp_path / "report", EvalConfig(perplexity={"prose": "prose"}), tmp_path / "later")
    )
    assert one.fingerprint not in looked_for


def test_a_report_that_says_nothing_of_its_data_was_measured_on_nothing(tmp_path: Path) -> None:
    with storage.writing(tmp_path / "report") as tree:
        (tree.path / "other.json").write_text(json.dumps({}))
        tree.commit(EvalReport(checkpoint="c", mask="causal", metrics={}))
    assert list(measured_files(storage.read(tmp_path / "report", EvalReport))) == []
