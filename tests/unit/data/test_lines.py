import io
import random
import tracemalloc
from collections.abc import Iterator
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


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 7, 1000, 2**18, 2**30])
def test_cutting_keeps_every_byte_and_bounds_what_a_piece_unpacks_to(size: int) -> None:
    data = packed(b"x" * 20_000_000) + packed(some_text(3, 3_000_000)) + packed(b"")
    cut = list(frames.cut(pieces(data if size > 1 else data[:5000], size)))
    assert b"".join(cut) == (data if size > 1 else data[:5000])
    unpacker, most = zstandard.ZstdDecompressor().decompressobj(), 0
    for piece in cut:
        while piece:
            most = max(most, len(unpacker.decompress(piece)))
            piece = unpacker.unused_data if unpacker.eof else b""
            unpacker = zstandard.ZstdDecompressor().decompressobj() if unpacker.eof else unpacker
    assert 0 < most <= (frames.BLOCKS_FED + 1) * 2**17
