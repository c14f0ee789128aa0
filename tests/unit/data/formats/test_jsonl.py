import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.data.documents import read_documents
from headrace.data.formats import recognise, recognise_record, split_of

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
ANSWERS = TEXTS.filter(lambda text: bool(text.strip()))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.tuples(TEXTS, st.text(st.characters(exclude_categories=["Cs"])), ANSWERS), min_size=1))
@pytest.mark.parametrize("ascii_only", [True, False])
def test_any_text_comes_back_as_it_was_written(
    tmp_path: Path, ascii_only: bool, lines: list[tuple[str, str, str]]
) -> None:
    records = [
        line for text, prompt, target in lines for line in ({"text": text}, {"prompt": prompt, "target": target})
    ]
    written = "".join(json.dumps(record, ensure_ascii=ascii_only) + "\n" for record in records)
    (tmp_path / "c.jsonl").write_bytes(written.encode())
    found = list(read_documents(str(tmp_path / "c.jsonl"), format="jsonl"))
    assert [document.text for document in found[::2]] == [text for text, _, _ in lines]
    assert [(document.prompt, document.target) for document in found[1::2]] == [line[1:] for line in lines]


def test_a_record_may_name_its_source_under_the_corpus(read: Callable) -> None:
    lines = [{"text": "a", "source": "mill"}, {"text": "b"}, {"prompt": "c", "target": "d", "meta": None}]
    assert [found.source for found in read("c.jsonl", lines, source="own")[0]] == ["own/mill", "own", "own"]
    assert [found.source for found in read("c.jsonl", lines)[0]] == ["mill", "c", "c"]


def test_a_target_of_whitespace_teaches_nothing(read: Callable) -> None:
    assert read("c.jsonl", [{"prompt": "a", "target": " \n"}])[1] == ["1 has an empty 'target'"]


@pytest.mark.parametrize(
    ("name", "content", "form", "split"),
    [
        ("a.jsonl", '{"text": "a", "meta": {"pile_set_name": "ArXiv"}}', "jsonl", "text"),
        ("a.jsonl", '\n{\n{"prompt": "a", "target": "b"}', "jsonl", "instructions"),
        ("a.jsonl", '{"prompt": "a", "completion": "b"}', "p3", "instructions"),
        ("a.jsonl", '{"inputs_pretokenized": "a", "targets_pretokenized": "b"}', "p3", "instructions"),
        ("a.jsonl", '{"text": "a", "prompt": "how it was made"}', "jsonl", "text"),
        ("a.jsonl", "broken", "jsonl", "text"),
        ("a.txt", "text", "text", "text"),
        ("a.tsv", "a\tb\tc", "flan_cot", "instructions"),
        ("a.json", '{"anatomy": "Q"}', "mmlu_cot", "instructions"),
        ("a.json", '{"Definition": "Q", "Instances": []}', "natural_instructions", "instructions"),
        ("task1_a.json", '{"anatomy": "Q"}', "natural_instructions", "instructions"),
    ],
)
def test_a_format_is_told_by_name_and_first_record(
    name: str, content: str, form: str, split: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    assert recognise(str(tmp_path / name)) == form
    assert split_of(form, str(tmp_path / name)) == split


def test_a_record_of_no_known_fields_is_read_as_the_generic_one() -> None:
    assert recognise_record({}) == recognise_record({"title": "a"}) == "jsonl"
