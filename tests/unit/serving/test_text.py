"""Text deltas against plain-Python versions of the rules they follow."""

import random

import pytest

from headrace.data.tokenizer import TextTokenizer
from headrace.serving.text import UNFINISHED, TextStream

BYTES_OF_CHARACTER = {"é": 2, "中": 3, "😀": 4}


def byte_tokenizer() -> TextTokenizer:
    """A byte-level tokenizer without merges: every byte is a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|endoftext|>"])
    return TextTokenizer(backend.to_str())


def cut_character_by_character(text: str, stops: list[str]) -> str:
    """Read one character at a time and stop at the first stop string that is complete."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))]
    return text


def random_pieces(text: str, draw: random.Random) -> list[str]:
    pieces = []
    while text:
        size = draw.randint(1, 4)
        pieces.append(text[:size])
        text = text[size:]
    return pieces


def test_each_delta_is_whole_characters_and_comes_with_the_last_byte_of_each() -> None:
    tokenizer = byte_tokenizer()
    for character, size in BYTES_OF_CHARACTER.items():
        stream = TextStream(tokenizer.decode)
        deltas = [stream.push(token) for token in tokenizer.encode(character)]
        assert deltas == [""] * (size - 1) + [character]


@pytest.mark.parametrize("seed", range(20))
def test_deltas_of_any_bytes_join_to_the_text_of_all_of_them(seed: int) -> None:
    tokenizer, draw = byte_tokenizer(), random.Random(seed)
    valid = tokenizer.encode("".join(draw.choices("aé中😀", k=20)))
    tokens = [token if draw.random() < 0.8 else draw.randrange(256) for token in valid] + [valid[0]]
    stream = TextStream(tokenizer.decode)
    deltas = [stream.push(token) for token in tokens]
    assert not any(delta.endswith(UNFINISHED) for delta in deltas)
    assert "".join([*deltas, stream.finish()]) == tokenizer.decode(tokens)


def test_an_unfinished_character_at_the_very_end_is_replaced_not_lost() -> None:
    tokenizer = byte_tokenizer()
    stream = TextStream(tokenizer.decode)
    assert [stream.push(token) for token in tokenizer.encode("a中")[:-1]] == ["a", "", ""]
    assert stream.finish() == UNFINISHED


@pytest.mark.parametrize("seed", range(200))
def test_stop_strings_cut_alike_wherever_the_borders_of_tokens_lie(seed: int) -> None:
    draw = random.Random(seed)
    text = "".join(draw.choices("abc", k=draw.randint(1, 30)))
    stops = ["".join(draw.choices("abc", k=draw.randint(1, 5))) for _ in range(draw.randint(1, 3))]
    stops += [stop[1:-1] for stop in stops if len(stop) > 2 and draw.random() < 0.3]  # inside another, and first to end
    pieces = random_pieces(text, draw)
    stream = TextStream(lambda tokens: "".join(pieces[token] for token in tokens), stops)
    sent, expected = "", cut_character_by_character(text, stops)
    for token in range(len(pieces)):
        sent += stream.push(token)
        assert expected.startswith(sent)  # nothing of a stop string, nor after it, was ever sent
        if stream.stopped:
            break
        arrived = "".join(pieces[: token + 1])
        assert len(sent) > len(arrived) - max(map(len, stops))  # and nothing held back without need
    sent += stream.finish()
    assert sent == expected
    assert stream.stopped == (expected != text)
