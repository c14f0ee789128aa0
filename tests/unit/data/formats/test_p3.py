import json
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.data.documents import read_documents

P3 = Path(__file__).parents[5] / "shared/data/instruct/p3_t0/data_per_template/imdb_Movie_Expressed_Sentiment.jsonl"


@pytest.mark.parametrize("fields", [("prompt", "completion"), ("inputs_pretokenized", "targets_pretokenized")])
def test_a_template_is_a_subset_whichever_names_its_fields_have(fields: tuple[str, str], read: Callable) -> None:
    pairs = [("Good or bad?", "Good"), ("Good or bad?\n", "Bad"), ("Good or bad? ", "Good"), ("Why?", "\nSo.")]
    lines = [dict(zip(fields, pair, strict=True)) | {"inputs": [1, 2]} for pair in pairs]
    documents, faults = read("imdb_Sentiment.jsonl", lines, source="p3")
    assert [(found.prompt, found.target) for found in documents] == [
        ("Good or bad?", " Good"),
        ("Good or bad?\n", "Bad"),
        ("Good or bad?", " Good"),
        ("Why?", "\nSo."),
    ]
    assert {found.source for found in documents} == {"p3/imdb_Sentiment"}
    assert (faults, [found.line for found in documents]) == ([], [1, 2, 3, 4])


def test_an_end_of_text_is_taken_off_once_and_is_no_answer(read: Callable) -> None:
    answers = ["yes<|endoftext|>", "<|endoftext|>yes", "<|endoftext|>", " ", "", 3]
    documents, faults = read("t.jsonl", [{"prompt": "p\n", "completion": answer} for answer in answers], format="p3")
    assert [found.target for found in documents] == ["yes", "<|endoftext|>yes"]
    assert faults == [
        *[f"{line} has an empty 'completion'" for line in (3, 4, 5)],
        "6 has a 'completion' of type int, not text",
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"prompt": "p"}, "1 has no 'completion'"),
        ({"completion": "c"}, "1 has no 'prompt'"),
        ({"inputs_pretokenized": "p"}, "1 has no 'targets_pretokenized'"),
        ({"text": "t"}, "1 has no 'completion'"),
    ],
)
def test_a_missing_field_is_a_fault(line: dict[str, str], reason: str, read: Callable) -> None:
    assert read("t.jsonl", [line], format="p3") == ([], [reason])


@pytest.mark.skipif(not P3.exists(), reason="needs the data sets in ../shared, which are not redistributed")
def test_a_slice_of_p3_keeps_its_text() -> None:
    lines = [json.loads(line) for line in P3.read_text().splitlines()]
    found = list(read_documents(str(P3), source="p3"))
    assert [document.prompt + document.target for document in found] == [
        (line["prompt"] + line["completion"]).removesuffix("<|endoftext|>") for line in lines
    ]
    assert {document.source for document in found} == {"p3/imdb_Movie_Expressed_Sentiment"}
    assert all(document.target for document in found)
