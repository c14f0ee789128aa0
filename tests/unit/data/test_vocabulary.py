import pytest

from headrace.data.vocabulary import SpecialTokens, padded_size
from headrace.errors import ConfigError


def test_gptj_modes_and_sentinels_take_its_143_unused_rows() -> None:
    special = SpecialTokens(50257, 50400)
    assert [special.mode(mode) for mode in ("R", "S", "X")] == [50257, 50258, 50259]
    assert special.sentinels == range(50260, 50400)
    assert special.names()[50257] == "[NLU]"
    assert special.names()[50260] == "[0]"
    assert sorted(special.names()) == list(range(50257, 50400))


def test_a_model_smaller_than_its_tokenizer_is_refused() -> None:
    with pytest.raises(ConfigError, match="50,256 embedding rows cannot hold a tokenizer of 50,257"):
        SpecialTokens(50257, 50256)


def test_too_few_unused_rows_are_refused_with_a_size_that_would_do() -> None:
    SpecialTokens(300, 311).require_sentinels()
    with pytest.raises(ConfigError, match=r"leaves 10 rows unused.* Set it to 312 or more") as refusal:
        SpecialTokens(300, 310).require_sentinels()
    assert "\n" not in str(refusal.value)


def test_a_vocabulary_without_unused_rows_has_no_sentinels() -> None:
    assert len(SpecialTokens(300, 300).sentinels) == 0
    assert len(SpecialTokens(300, 302).sentinels) == 0


@pytest.mark.parametrize(("tokenizer", "extra", "multiple", "size"), [(50257, 143, 8, 50400), (4000, 100, 128, 4224)])
def test_padded_size_is_the_smallest_multiple_that_has_room(
    tokenizer: int, extra: int, multiple: int, size: int
) -> None:
    assert padded_size(tokenizer, extra, multiple) == size
    assert size % multiple == 0 and size - multiple < tokenizer + extra <= size
