"""A ledger written, read, cut off and forged."""

import json
from pathlib import Path

import numpy as np
import pytest

from headrace.data.ledger import HASH_BYTES, HEAD, MAGIC, Header, Ledger, chained
from headrace.data.ledger_writer import LedgerWriter, beginning
from headrace.data.loader import Provenance
from headrace.errors import IntegrityError

HEADER = Header(shards={"text": "1" * 64, "asked": "2" * 64}, sources={"cot": "asked", "p3": "asked", "pile": "text"})
SOURCES = list(HEADER.sources)
STEPS = 30


def origin(shards: str, number: int) -> str:
    return f"/corpora/{shards}/{number % 3}: x.jsonl:{number * 7 + 1}"


def batch(step: int) -> Provenance:
    random = np.random.default_rng(step)
    parts = int(random.integers(1, 40))
    starts = random.integers(0, 5000, parts)
    return Provenance(
        np.sort(random.integers(0, 8, parts)),
        random.integers(0, 3, parts),
        random.integers(0, 50, parts),
        starts,
        starts + random.integers(1, 2048, parts),
    )


def write(path: Path, first: int = 1, last: int = STEPS, resumed: Path | None = None) -> Path:
    writer = LedgerWriter(path, HEADER, origin, resumed=resumed, step=first - 1)
    for step in range(first, last + 1):
        writer.append(step, batch(step))
    writer.close()
    return path


def told(step: int) -> list[tuple[object, ...]]:
    """What a ledger should say of a step."""
    rows = zip(*(column.tolist() for column in batch(step)), strict=True)
    shards = [HEADER.sources[name] for name in SOURCES]
    return [
        (step, row, SOURCES[s], shards[s], number, start, stop, origin(shards[s], number))
        for row, s, number, start, stop in rows
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "ledger.bin")


def test_every_step_is_told_as_it_was_fed(path: Path) -> None:
    ledger = Ledger(path)
    assert ledger.header == HEADER and ledger.steps == STEPS
    for step in range(1, STEPS + 1):
        assert ledger.of_step(step) == told(step)
    for step in (0, STEPS + 1, -1):
        with pytest.raises(KeyError):
            ledger.of_step(step)


def test_every_time_a_document_was_fed_is_told(path: Path) -> None:
    ledger = Ledger(path)
    every = [record for step in range(1, STEPS + 1) for record in told(step)]
    for document in {record[-1] for record in every}:
        assert ledger.of_document(str(document)) == [record for record in every if record[-1] == document]
    for unknown in ("/corpora/text/0: x.jsonl:2", "nothing", "nothing:1", "/corpora/text/0: x.jsonl:"):
        assert ledger.of_document(unknown) == []


@pytest.mark.parametrize("step", [0, 1, 17, STEPS])
def test_a_ledger_gone_on_with_is_the_one_never_left(path: Path, tmp_path: Path, step: int) -> None:
    part = write(tmp_path / "part.bin", last=step)
    left = tmp_path / "left.bin"
    left.write_bytes(path.read_bytes()[:-9])  # what a killed process wrote beyond its checkpoint
    assert write(left, first=step + 1, resumed=part).read_bytes() == path.read_bytes()


def test_a_step_is_in_the_file_as_soon_as_it_is_recorded(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path / "ledger.bin", HEADER, origin)
    for step in range(1, 4):
        writer.append(step, batch(step))
        assert Ledger(tmp_path / "ledger.bin").steps == step


def test_a_ledger_of_other_steps_or_shards_is_not_gone_on_with(path: Path, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="is the ledger of 30 steps"):
        write(tmp_path / "new.bin", first=STEPS, resumed=path)
    other = Header(shards=HEADER.shards | {"text": "3" * 64}, sources=HEADER.sources)
    with pytest.raises(IntegrityError, match="goes on from step 30"):
        LedgerWriter(tmp_path / "new.bin", other, origin, resumed=path, step=STEPS)
    assert not (tmp_path / "new.bin").exists()


def test_no_byte_can_be_changed_and_no_end_cut_off_within_a_frame(path: Path, tmp_path: Path) -> None:
    whole = path.read_bytes()
    ends = {len(MAGIC)}
    place = len(MAGIC)
    while place < len(whole):
        place += HEAD.size + HEAD.unpack_from(whole, place)[1] + HASH_BYTES
        ends.add(place)
    random, forged = np.random.default_rng(0), tmp_path / "forged.bin"
    for at in random.integers(0, len(whole), 200).tolist():
        changed = bytearray(whole)
        changed[at] ^= 1 << int(random.integers(0, 8))
        forged.write_bytes(changed)
        with pytest.raises(IntegrityError):
            Ledger(forged)
        if at not in ends:
            forged.write_bytes(whole[:at])
            with pytest.raises(IntegrityError):
                Ledger(forged)


def test_a_step_left_out_or_written_anew_breaks_the_chain(path: Path, tmp_path: Path) -> None:
    whole, frames, place = path.read_bytes(), [], len(MAGIC)
    while place < len(whole):
        end = place + HEAD.size + HEAD.unpack_from(whole, place)[1] + HASH_BYTES
        frames.append(whole[place:end])
        place = end
    forged = tmp_path / "forged.bin"
    forged.write_bytes(MAGIC + b"".join(frames[:5] + frames[6:]))
    with pytest.raises(IntegrityError, match="altered at step 5"):
        Ledger(forged)
    # One frame with a hash of its own: the next no longer follows.
    head, content = HEAD.pack(5, len(frames[9]) - HEAD.size - HASH_BYTES), frames[9][HEAD.size : -HASH_BYTES]
    frames[5] = head + content + chained(frames[4][-HASH_BYTES:], head, content)
    forged.write_bytes(MAGIC + b"".join(frames))
    with pytest.raises(IntegrityError, match="altered at step 6"):
        Ledger(forged)


def test_twenty_thousand_steps_of_64_rows_stay_below_100_megabytes(tmp_path: Path) -> None:
    """As in UL2 on the Pile: some 150 parts a step, of millions of documents in 30 files."""
    random, names = np.random.default_rng(0), [f"/corpora/pile/train/{n:02d}.jsonl.zst" for n in range(30)]
    writer = LedgerWriter(tmp_path / "l", HEADER, lambda _, n: f"{names[n % 30]}:{n // 30}")
    for step in range(1, 21):
        starts = random.integers(0, 20_000, 150) * (random.random(150) < 0.6)
        stops = starts + random.integers(8, 2048, 150)
        numbers = random.integers(0, 210_000_000, 150)
        writer.append(step, Provenance(np.sort(random.integers(0, 64, 150)), np.full(150, 2), numbers, starts, stops))
    assert (tmp_path / "l").stat().st_size / 20 * 20_000 < 50e6


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    for content in (b"", MAGIC, b"headrace ledger 2\n" + bytes(100), json.dumps({}).encode()):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(IntegrityError):
            Ledger(tmp_path / "x")


@pytest.mark.parametrize("torn", [0, 5, 40])
def test_another_process_goes_on_with_what_one_left_however_it_ended(path: Path, tmp_path: Path, torn: int) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - torn])
    left = beginning(path, STEPS - 1)
    assert Ledger(left).steps == STEPS - 1
    assert write(path, STEPS, STEPS, resumed=left).read_bytes() == whole


def test_what_a_hung_process_writes_when_it_wakes_up_is_in_no_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.bin"
    hung = LedgerWriter(path, HEADER, origin)
    hung.append(1, batch(1))
    following = LedgerWriter(path, HEADER, origin, resumed=beginning(path, 1), step=1)
    following.append(2, batch(2))
    hung.append(2, batch(2))
    following.append(3, batch(3))
    assert path.read_bytes() == write(tmp_path / "undisturbed.bin", last=3).read_bytes()


def test_a_ledger_that_lacks_a_step_cannot_be_gone_on_with(path: Path) -> None:
    left = beginning(path, STEPS + 1)
    with pytest.raises(IntegrityError, match=f"is the ledger of {STEPS} steps"):
        LedgerWriter(path, HEADER, origin, resumed=left, step=STEPS + 1)
