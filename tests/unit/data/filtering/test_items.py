"""What is looked for: every record that is not trained on, and the files that it is told by."""

import hashlib
import json
from pathlib import Path

import pytest

from headrace.data.corpus import CorpusConfig, gather_corpus
from headrace.data.filtering.items import evaluation_items, item_files
from headrace.data.filtering.words import split_words
from headrace.data.source_files import SourceFiles


def test_evaluation_items_are_every_string_of_every_record_that_is_not_trained_on(tmp_path: Path) -> None:
    records = [
        {"ctx": "A wheel", "endings": ["turns.", "stops."], "label": 0},
        {"goal": "Mill flour", "sol1": "with water", "sol2": "with air", "meta": {"more": "words"}},
    ]
    lines = [json.dumps(records[0]), "", json.dumps(records[1]), "12", "not json at all"]
    (tmp_path / "exam.jsonl").write_text("\n".join(lines))
    (tmp_path / "passage.txt").write_text("one\ntwo")
    (tmp_path / "text.jsonl").write_text('{"text": "trained on"}\n')
    named = {"exam": "exam.jsonl", "passage": "passage.txt", "text": "text.jsonl", "instructions": "text.jsonl"}
    gather_corpus(CorpusConfig(files={name: str(tmp_path / file) for name, file in named.items()}), tmp_path / "c")
    found = {name: split_words(text) for name, text in evaluation_items(tmp_path / "c")}
    assert found == {
        "exam:1": b"a wheel turns stops".split(),
        "exam:3": b"mill flour with water with air words".split(),
        "exam:5": b"not json at all".split(),
        "passage:1": b"one two".split(),
    }


def test_the_rows_of_a_task_that_its_description_names_are_items(tmp_path: Path) -> None:
    (tmp_path / "tweets").mkdir()
    (tmp_path / "tweets" / "task.json").write_text('{"name": "tweets", "description": "Which of them complain?"}')
    rows = 'Tweet,ID,Label\r\n"The ""old"" wheel,\r\nit stops",0,complaint\r\n\r\nGrain is ground,1,no complaint\r\n'
    (tmp_path / "tweets" / "train.csv").write_bytes(rows.encode())
    gather_corpus(CorpusConfig(files={"raft": str(tmp_path / "tweets" / "task.json")}), tmp_path / "corpus")
    assert {name: split_words(text) for name, text in evaluation_items(tmp_path / "corpus")} == {
        "raft:1": b"the old wheel it stops 0 complaint".split(),
        "raft:3": b"grain is ground 1 no complaint".split(),
    }
    (tmp_path / "tweets" / "train.csv").write_text("")
    gather_corpus(CorpusConfig(files={"raft": str(tmp_path / "tweets" / "task.json")}), tmp_path / "none")
    assert list(evaluation_items(tmp_path / "none")) == []


def test_instances_of_natural_instructions_are_items_however_their_file_is_laid_out(tmp_path: Path) -> None:
    instances = [{"id": "task1-a", "input": "Mill flour", "output": ["with water", "by hand"]}, {"input": "Turn"}]
    task = {"Definition": ["Say how."], "Positive Examples": [{"input": "a", "output": "b"}], "Instances": instances}
    for indent in (None, 4):
        (tmp_path / "task1_mill.json").write_text(json.dumps(task, indent=indent))
        gather_corpus(CorpusConfig(files={"ni": str(tmp_path / "task1_mill.json")}), tmp_path / f"corpus-{indent}")
        assert list(evaluation_items(tmp_path / f"corpus-{indent}")) == [
            ("ni:1", "Mill flour \nwith water \nby hand"),
            ("ni:2", "Turn"),
        ]


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("[3, {", ["[3, {"]),
        ('{"a": ["one", 2], "b": "two"}', ["one \ntwo"]),
        ('{"Instances": ["one", 2]}', ["one"]),
    ],
)
def test_a_file_of_another_schema_is_looked_for_as_far_as_it_has_words(
    text: str, items: list[str], tmp_path: Path
) -> None:
    (tmp_path / "task1.json").write_text(text)
    gather_corpus(CorpusConfig(files={"ni": str(tmp_path / "task1.json")}), tmp_path / "corpus")
    assert [text for _, text in evaluation_items(tmp_path / "corpus")] == items


def test_rows_of_a_data_set_by_name_are_items(tmp_path: Path) -> None:
    (tmp_path / "exam").mkdir()
    rows = [{"goal": "Mill flour", "label": 0}, {"goal": "Turn", "label": 1}]
    (tmp_path / "exam" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = SourceFiles(uri=f"hub:{tmp_path}/exam", format="jsonl", split="exam")
    gather_corpus(CorpusConfig(sources={"exam": source}), tmp_path / "corpus")
    assert list(evaluation_items(tmp_path / "corpus")) == [("exam:1", "Mill flour"), ("exam:2", "Turn")]


def test_rows_of_natural_instructions_by_name_are_their_instances(tmp_path: Path) -> None:
    (tmp_path / "ni").mkdir()
    row = {"task_name": "task9", "id": "9-a", "definition": "Name it.", "inputs": "Malta", "targets": "Euro"}
    (tmp_path / "ni" / "test.jsonl").write_text(json.dumps(row) + "\n")
    gather_corpus(CorpusConfig(files={"ni": f"hub:{tmp_path}/ni:test"}), tmp_path / "corpus")
    assert list(evaluation_items(tmp_path / "corpus")) == [("ni:1", "Malta \nEuro")]


def test_the_files_of_items_are_told_by_what_they_hold_with_those_beside_them(tmp_path: Path) -> None:
    held = {"valid.jsonl": b'{"goal": "a"}\n', "valid-labels.lst": b"0\n", "text.jsonl": b'{"text": "b"}\n'}
    for name, data in held.items():
        (tmp_path / name).write_bytes(data)
    files = {"piqa": str(tmp_path / "valid.jsonl"), "text": str(tmp_path / "text.jsonl")}
    gather_corpus(CorpusConfig(files=files), tmp_path / "corpus")
    expected = {hashlib.sha256(held[name]).hexdigest() for name in ("valid.jsonl", "valid-labels.lst")}
    assert item_files(tmp_path / "corpus") == {"piqa": tuple(sorted(expected))}
