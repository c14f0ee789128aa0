"""A Pile-like corpus of any size, written as one `.jsonl.zst` file from seeded text.

gigatoken remembers the words it has seen, so repeating the same documents would flatter everything
that goes through it. Each document is therefore a stretch of a base text in which a share of the words
is spelt as no word before it: the share that Heaps' law, V = 7 n^0.65 distinct among n words, has left to
find (it gives the Pile slice's 49.5 thousand at its 0.85 M words; 1 % new at 45 M words, 0.3 % at 1 G).

The base text is the Pile slice of `../shared/data` where it is there, and otherwise words drawn by
Zipf's law from a seeded vocabulary.
"""

import hashlib
import itertools
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

HEAPS_FACTOR, HEAPS_EXPONENT = 7.0, 0.65
"""Distinct words among n are the factor times n to the exponent."""
DOCUMENT_WORDS = 1300
"""Mean words, punctuation and spaces of a document: 5.9 KB of text, as in the Pile."""
SLICE = Path(__file__).parents[3] / "shared/data/pretrain/pile_like/small.jsonl.zst"
WORD = re.compile(r" ?[^\W\d_]+| ?\d+| ?[^\s\w]+|_+|\s+(?!\S)|\s+")
SUBSETS = ("Pile-CC", "PubMed Central", "ArXiv", "Github", "Wikipedia (en)", "StackExchange")


def write_corpus(path: Path, text_bytes: int, seed: int = 0) -> int:
    """Write documents until their texts reach `text_bytes` of UTF-8; returns the bytes written.

    Deterministic: a smaller corpus of the same seed is the beginning of a larger one.
    """
    import orjson
    import zstandard

    written = 0
    with path.open("wb") as file, zstandard.ZstdCompressor(level=3).stream_writer(file) as stream:
        for number, text in enumerate(make_texts(seed)):
            stream.write(orjson.dumps({"text": text, "meta": {"pile_set_name": SUBSETS[number % len(SUBSETS)]}}))
            stream.write(b"\n")
            written += len(text.encode())
            if written >= text_bytes:
                return written
    return written


def make_texts(seed: int) -> Iterator[str]:
    """Yield documents without end."""
    words = base_words()
    before = 0
    for number in itertools.count():
        chance = random.Random(f"{seed}/{number}")
        length = min(int(chance.lognormvariate(0, 1) * DOCUMENT_WORDS / 1.65) + 1, len(words))
        start = chance.randrange(len(words) - length + 1)
        text = words[start : start + length]
        new = distinct(before + length) - distinct(before)
        for place in chance.choices(range(length), k=int(new + chance.random())):
            text[place] = respell(text[place], chance)
        before += length
        yield "".join(text)


def distinct(words: int) -> float:
    """Different words that so many are expected to hold."""
    return float(HEAPS_FACTOR * words**HEAPS_EXPONENT)


def respell(word: str, chance: random.Random) -> str:
    """A word of the same beginning and end that was not seen before, most likely."""
    middle = (len(word) + 1) // 2
    return word[:middle] + "".join(chance.choices("aeiourstlnmdcpgbh", k=4)) + word[middle:]


def base_words() -> list[str]:
    """Words of the base text, with the spaces and marks between them, in their order."""
    return [word for text in _base_texts() for word in WORD.findall(text)]


def describe_base() -> str:
    """Where the base text comes from, and what identifies it."""
    words = base_words()
    digest = hashlib.sha256("".join(words).encode()).hexdigest()[:12]
    origin = "slice of the Pile" if SLICE.exists() else "seeded words by Zipf's law"
    return f"{origin}, {len(words):,} words, {len(set(words)):,} distinct, {digest}; new spellings by Heaps' law"


def _base_texts() -> list[str]:
    import zstandard

    if not SLICE.exists():
        return [_zipf_text()]
    with SLICE.open("rb") as file:
        data = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read()
    return [json.loads(line)["text"] for line in data.splitlines()]


def _zipf_text(words: int = 800_000, vocabulary: int = 50_000) -> str:
    chance = random.Random(0)
    spellings = ["".join(chance.choices("etaoinshrdlcum", k=chance.randint(1, 11))) for _ in range(vocabulary)]
    ranks = list(itertools.accumulate(1 / rank for rank in range(1, vocabulary + 1)))
    drawn = chance.choices(spellings, cum_weights=ranks, k=words)
    return "".join(word + (". " if number % 17 == 16 else " ") for number, word in enumerate(drawn))
