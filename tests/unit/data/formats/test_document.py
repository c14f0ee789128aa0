import pytest

from headrace.data.formats.document import FaultyRecord, Origin, filled_field, joined, nonempty_field, text_field


@pytest.mark.parametrize(
    ("prompt", "target", "wanted"),
    [
        ("Input: a\nOutput:", "b", ("Input: a\nOutput:", " b")),
        ("Input: a\nOutput: ", "b", ("Input: a\nOutput:", " b")),
        ("Input: a\nOutput:", " b", ("Input: a\nOutput:", " b")),
        ("Input: a\nOutput: ", "\nb", ("Input: a\nOutput: ", "\nb")),
        ("Which one?\n", "b", ("Which one?\n", "b")),
        ("Which one?\n ", "b", ("Which one?\n ", "b")),
        ("", "b", ("", "b")),
        ("  ", "b", ("  ", "b")),
    ],
)
def test_prompt_and_target_read_as_one_text_and_the_space_is_the_targets(
    prompt: str, target: str, wanted: tuple[str, str]
) -> None:
    assert joined(prompt, target) == wanted


@pytest.mark.parametrize(
    ("name", "subset", "source"),
    [("pile", "ArXiv", "pile/ArXiv"), ("pile", "", "pile"), ("", "ArXiv", "ArXiv"), ("", "", "corpus")],
)
def test_a_source_is_as_much_of_its_name_as_is_known(name: str, subset: str, source: str) -> None:
    assert Origin("a.jsonl", name).source(subset) == source


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"a": "b"}, ("b", "b", "b")),
        ({"a": " \n"}, (" \n", " \n", "has an empty 'a'")),
        ({"a": ""}, ("", "has an empty 'a'", "has an empty 'a'")),
        ({"a": None}, ("has a 'a' of type NoneType, not text",) * 3),
        ({}, ("has no 'a'",) * 3),
    ],
)
def test_a_field_may_be_empty_or_hold_whitespace_or_must_be_filled(values: dict, said: tuple[str, str, str]) -> None:
    for check, wanted in zip((text_field, nonempty_field, filled_field), said, strict=True):
        try:
            assert check(values, "a") == wanted
        except FaultyRecord as fault:
            assert str(fault) == wanted
