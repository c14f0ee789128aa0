import random
import string

import numpy as np
import pytest

from headrace.data.filtering import words as module
from headrace.data.filtering.words import hash_words, mix, ngrams, normalise, split_words, words_at

M = 2**64
ALPHABET = "abcXYZ019 \n\t.,'-!éßЖçİ“”—水車\u00a0\u200b\u3000😀"


def mix_plainly(value: int) -> int:
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % M
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % M
    return value ^ (value >> 31)


def hash_plainly(word: bytes) -> int:
    return mix_plainly(sum(mix_plainly(byte + 1) * pow(module.BYTE_FACTOR, at, M) for at, byte in enumerate(word)) % M)


def texts(seed: int, count: int = 40) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices(ALPHABET, k=draw.randint(0, 120))) for _ in range(count)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't  stop,\tthe mill-wheel!", ["dont", "stop", "the", "millwheel"]),
        ("“Größe” — L’État\u00a0C’EST\u3000moi…", ["größe", "létat", "cest", "moi"]),
        ("zero\u200bwidth soft\u00adhyphen", ["zerowidth", "softhyphen"]),
        ("水車は回る。 turn", ["水", "車", "は", "回", "る", "turn"]),
        ("... ,; \n —", []),
        ("", []),
        ("a\x1cb\x0bc\x85d\u2028e", ["a", "b", "c", "d", "e"]),
    ],
)
def test_words_are_lower_case_and_without_punctuation(text: str, words: list[str]) -> None:
    assert split_words(text) == [word.encode() for word in words]


def test_ascii_words_are_those_of_gpt3s_rule_in_plain_python() -> None:
    draw = random.Random(1)
    for _ in range(200):
        text = "".join(draw.choices(string.printable, k=200))
        plain = text.lower().translate(str.maketrans("", "", string.punctuation)).split()
        assert [word.decode() for word in split_words(text)] == plain


def test_words_of_spans_are_found_without_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.data.filtering.words.PIECE_CHARACTERS", 50)
    draw = random.Random(2)
    for text in texts(1):
        words = split_words(text)
        starts = [draw.randrange(len(words) + 1) for _ in range(5)]
        spans = [(start, min(start + draw.randrange(20), len(words))) for start in starts]
        numbers = {number for start, stop in spans for number in range(start, stop)}
        assert words_at(text, spans) == {number: words[number] for number in numbers}


def test_hashes_equal_those_of_whole_python_numbers() -> None:
    documents = texts(0)
    hashed = hash_words(documents)
    plain = [[hash_plainly(word) for word in split_words(text)] for text in documents]
    assert hashed.counts_D.tolist() == [len(row) for row in plain]
    assert hashed.hashes_W.tolist() == [value for row in plain for value in row]
    assert hashed.first_D.tolist() == [sum(map(len, plain[:n])) for n in range(len(plain))]


def test_blocks_and_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [" ".join(texts(seed)) for seed in range(4)]
    whole = hash_words(documents)
    wanted = ngrams(whole.hashes_W, 13)
    monkeypatch.setattr(module, "BLOCK_BYTES", 64)
    monkeypatch.setattr(module, "BLOCK_WORDS", 7)
    monkeypatch.setattr(module, "PIECE_CHARACTERS", 300)
    cut = hash_words(documents)
    assert cut.hashes_W.tolist() == whole.hashes_W.tolist() and cut.counts_D.tolist() == whole.counts_D.tolist()
    assert ngrams(cut.hashes_W, 13).tolist() == wanted.tolist()
    assert [word for text in documents for word in split_words(text)] == [w for text in documents for w in _words(text)]


def _words(text: str) -> list[bytes]:
    return [word for word in normalise(text).split(b" ") if word]


def test_a_word_longer_than_a_piece_is_cut_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE_CHARACTERS", 10)
    assert split_words("a" * 25 + " b") == [b"a" * 10, b"a" * 10, b"aaaaa", b"b"]
    assert hash_words(["a" * 25 + " b"]).counts_D.tolist() == [4]


@pytest.mark.parametrize("length", range(1, 17))
def test_ngrams_are_polynomials_over_their_words(length: int) -> None:
    values = mix(np.arange(40, dtype=np.uint64))
    plain = [[int(value) for value in values[at : at + length]] for at in range(41 - length)]
    factor = module.WORD_FACTOR
    wanted = [mix_plainly(sum(v * pow(factor, length - 1 - n, M) for n, v in enumerate(row)) % M) for row in plain]
    got = ngrams(values, length).tolist()
    assert got == wanted and len(set(got)) == 41 - length


def test_equal_words_have_equal_ngrams_wherever_they_stand() -> None:
    phrase = "the water turns the wheel of the old mill by the river at night"
    one, two = hash_words([phrase]), hash_words(["Well: " + phrase.upper() + "!", "and " * 9])
    for length in range(1, 14):
        assert ngrams(two.hashes_W, length)[1] == ngrams(one.hashes_W, length)[0]


def test_nothing_gives_nothing() -> None:
    assert hash_words([]).counts_D.tolist() == []
    assert hash_words(["", "..."]).counts_D.tolist() == [0, 0]
    assert ngrams(hash_words(["a b"]).hashes_W, 3).tolist() == []
