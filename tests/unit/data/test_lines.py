import io
import random
import tracemalloc
from pathlib import Path

import pytest
import zstandard

from headrace.data import frames
from headrace.data.lines import read_lines
from headrace.errors import DataError


def packed(data: bytes, **options: object) -> bytes:
    """One frame, without its size in the header where it is streamed."""
    stream = io.BytesIO()
    with zstandard.ZstdCompressor(**options).stream_writer(stream, closefd=False) as writer:
        writer.write(data)
    return stream.getvalue()


def some_text(seed: int, size: int) -> bytes:
    chance = random.Random(seed)
    words = [chance.randbytes(chance.randint(1, 9)).hex().encode() for _ in range(500)]
    return b"".join(chance.choice(words) + chance.choice((b" ", b"\n")) for _ in range(size // 10))


def read(path: Path, data: bytes) -> list[bytes]:
    path.write_bytes(data)
    return list(read_lines(str(path)))


@pytest.mark.parametrize("seed", range(6))
def test_frames_of_every_kind_become_the_lines_that_were_packed(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    data, file = b"", b""
    for _ in range(chance.randint(1, 5)):
        text = some_text(chance.randrange(10**9), chance.choice((0, 5, 3_000, 700_000))) + b"\n" * chance.randrange(2)
        options = {"level": chance.choice((-5, 1, 9)), "write_checksum": chance.random() < 0.5}
        whole = zstandard.ZstdCompressor(write_content_size=chance.random() < 0.5, **options).compress(text)
        skipped = b"\x5a\x2a\x4d\x18\x07\x00\x00\x00skipped" if chance.random() < 0.3 else b""
        file += chance.choice((whole, packed(text, **options))) + skipped
        data += text
    assert read(tmp_path / "a.jsonl.zst", file) == data.split(b"\n") == read(tmp_path / "a.jsonl", data)


def test_a_window_of_128_mib_is_read(tmp_path: Path) -> None:
    options = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    data = some_text(0, 100_000) * 2
    assert read(tmp_path / "a.jsonl.zst", packed(data, compression_params=options)) == data.split(b"\n")


@pytest.mark.parametrize("checksum", [True, False])
def test_a_file_cut_off_anywhere_is_truncated(tmp_path: Path, checksum: bool) -> None:
    first, second = (packed(some_text(seed, 400_000), write_checksum=checksum) for seed in (1, 2))
    for end in [*random.Random(0).sample(range(1, len(first + second)), 40), len(first) + 2, len(first + second) - 1]:
        if end != len(first):
            with pytest.raises(DataError, match="is truncated"):
                read(tmp_path / "a.jsonl.zst", (first + second)[:end])


def test_what_follows_the_last_frame_is_not_sound(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not sound zstandard"):
        read(tmp_path / "a.jsonl.zst", packed(b"water\n") + b"no zstandard data at all")


def test_a_bomb_of_repetitions_does_not_fill_memory(tmp_path: Path) -> None:
    line = b"x" * 999 + b"\n"
    (tmp_path / "a.jsonl.zst").write_bytes(packed(line * 200_000))
    assert (tmp_path / "a.jsonl.zst").stat().st_size < 20_000
    tracemalloc.start()
    count = sum(1 for found in read_lines(str(tmp_path / "a.jsonl.zst")) if found)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 200_000
    assert peak < 12e6


@pytest.mark.parametrize("size", [1, 7, 1000, 2**18, 2**30])
def test_whole_frames_are_told_from_cut_ones_however_they_are_read(size: int) -> None:
    data = packed(b"x" * 2_000_000, write_checksum=True) + packed(b"") + b"\x5a\x2a\x4d\x18\x02\x00\x00\x00no"
    data += b"" if size == 1 else packed(some_text(3, 300_000))
    ends = {0, len(packed(b"x" * 2_000_000, write_checksum=True)), len(data)}
    for end in {*range(60), *random.Random(size).sample(range(len(data)), 20), *ends, len(data) - 1}:
        followed = frames.Followed(io.BytesIO(data[:end]))
        assert b"".join(iter(lambda: followed.read(size), b"")) == data[:end]  # noqa: B023
        assert followed.is_whole() == (end in _ends(data)), end


def _ends(data: bytes) -> set[int]:
    """Where zstandard itself says that a frame is over; a skippable one begins and ends at such a place too."""
    ends, left = {0}, data
    while left:
        unpacker = zstandard.ZstdDecompressor().decompressobj()
        unpacker.decompress(left)
        left = unpacker.unused_data
        ends.add(len(data) - len(left))
    return ends
