import pytest

from headrace.data.formats.document import Origin, joined


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
