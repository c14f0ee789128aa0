"""How one completion proceeds and ends."""

from collections.abc import Iterator

import pytest

from headrace.errors import ConfigError
from headrace.serving.job import Job, Piece, Request, Sampling
from headrace.serving.text import TextStream

EOS = 9


def spell(tokens: list[int]) -> str:
    return "".join(str(token) for token in tokens)


def run(tokens: Iterator[int], max_tokens: int = 8, stop: tuple[str, ...] = ()) -> list[Piece | Exception]:
    made: list[Piece | Exception] = []
    request = Request([1], Sampling(max_tokens=max_tokens, stop=stop))
    job = Job(tokens, TextStream(spell, stop), request, EOS, made.append)
    while job.advance():
        pass
    return made


def test_a_completion_that_uses_all_its_tokens_ends_for_length() -> None:
    assert run(iter([1, 2]), max_tokens=2) == [Piece("1"), Piece("2", "length", 2)]


@pytest.mark.parametrize("tokens", [[1, 2], [1, 2, EOS], [1, 2, EOS, 3]])
def test_eos_ends_a_completion_whether_or_not_the_generator_yields_it(tokens: list[int]) -> None:
    assert run(iter(tokens)) == [Piece("1"), Piece("2"), Piece("", "stop", 2)]


def test_a_stop_string_ends_a_completion_without_asking_for_another_token() -> None:
    tokens = iter([1, 2, 3, 4, 5])
    assert run(tokens, stop=("23",)) == [Piece("1"), Piece("", "stop", 3)]
    assert list(tokens) == [4, 5]


def test_text_held_back_for_a_stop_string_that_never_came_is_sent_at_the_end() -> None:
    assert run(iter([1, 2]), max_tokens=2, stop=("23",)) == [Piece("1"), Piece("2", "length", 2)]


def test_a_failure_is_handed_over_and_ends_the_completion() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise MemoryError("no room")

    first, last = run(failing())
    assert first == Piece("1")
    assert isinstance(last, MemoryError)


def test_a_cancelled_completion_makes_no_further_token() -> None:
    tokens = iter([1, 2, 3])
    job = Job(tokens, TextStream(spell), Request([1], Sampling(max_tokens=3)), EOS, lambda piece: None)
    assert job.advance()
    job.cancel()
    assert not job.advance()
    assert list(tokens) == [2, 3]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"temperature": -0.1}, "temperature=-0.1"),
        ({"temperature": 2.5}, "temperature=2.5"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"top_p": float("nan")}, "top_p=nan"),
        ({"top_k": -1}, "top_k=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 2**63}, f"seed={2**63}"),
        ({"stop": ("",)}, "stop="),
        ({"stop": tuple("abcde")}, "stop="),
    ],
)
def test_values_nothing_can_be_drawn_with_are_refused_by_name(wrong: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Sampling(**({"max_tokens": 1} | wrong))
