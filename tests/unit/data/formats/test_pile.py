import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from headrace.data.documents import read_documents

PILE = Path(__file__).parents[5] / "shared/data/pretrain/pile_like/small.jsonl.zst"


def test_subsets_are_named_under_the_source(read: Callable) -> None:
    lines = [{"text": "a", "meta": {"pile_set_name": "ArXiv"}}, {"text": "b\n", "meta": {"pile_set_name": "Pile-CC"}}]
    documents, faults = read("00.jsonl", lines, format="pile", source="pile")
    assert [(found.source, found.text, found.line) for found in documents] == [
        ("pile/ArXiv", "a", 1),
        ("pile/Pile-CC", "b\n", 2),
    ]
    assert faults == []
    assert [found.source for found in read("00.jsonl", lines, source="pile")[0]] == ["pile/ArXiv", "pile/Pile-CC"]


def test_a_line_that_hides_its_subset_is_a_fault_of_the_pile_alone(read: Callable) -> None:
    lines = [
        {"text": "a"},
        {"text": "b", "meta": "ArXiv"},
        {"text": "c", "meta": {}},
        {"text": "d", "meta": {"pile_set_name": 7}},
        {"text": 7, "meta": {"pile_set_name": "ArXiv"}},
        {"text": "", "meta": {"pile_set_name": "ArXiv"}},
        {"text": "g", "meta": {"pile_set_name": "ArXiv"}},
    ]
    documents, faults = read("00.jsonl", lines, format="pile", source="pile")
    assert [found.text for found in documents] == ["g"]
    assert faults == [
        "1 has no 'meta'",
        "2 has a 'meta' that is no object",
        "3 has no 'pile_set_name'",
        "4 has a 'pile_set_name' of type int, not text",
        "5 has a 'text' of type int, not text",
        "6 has an empty 'text'",
    ]
    assert len(read("00.jsonl", lines, source="pile")[0]) == 5


@pytest.mark.skipif(not PILE.exists(), reason="needs the data sets in ../shared, which are not redistributed")
def test_a_slice_of_the_pile_is_read_as_a_plain_parser_reads_it() -> None:
    lines = zstandard.ZstdDecompressor().stream_reader(PILE.open("rb")).read().splitlines()
    wanted = [(f"pile/{line['meta']['pile_set_name']}", line["text"]) for line in map(json.loads, lines)]
    found = list(read_documents(str(PILE), format="pile", source="pile"))
    assert [(document.source, document.text) for document in found] == wanted
    assert Counter(document.source for document in found)["pile/ArXiv"] == 12
