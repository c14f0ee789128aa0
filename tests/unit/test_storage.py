import multiprocessing
import os
import random
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace import atomic, buckets, storage
from headrace.artifacts import MANIFEST, Corpus, Rule, Tokenizer, Verdict
from headrace.errors import ConfigError, HeadraceError, IntegrityError, MismatchError, UnavailableError

NAMES = ("a.bin", "empty.bin", "deep/er/b.bin", "deep/manifest.json")
FACTS = Corpus(documents=3, sources={"mill": 3})


def contents(generation: int) -> dict[str, bytes]:
    """Files that tell which writer they are from; every generation has one of its own besides."""
    own = {name: b"" if "empty" in name else bytes([generation]) * (500 + generation) for name in NAMES}
    return {**own, f"only-{generation}.bin": b"x"}


def write(uri: str | Path, generation: int, pause: Callable[[], None] = lambda: None) -> str:
    with storage.writing(uri) as tree:
        for name, data in contents(generation).items():
            path = tree.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            pause()
        return tree.commit(Corpus(documents=generation, sources={}), {"raw": "0" * 64}).digest


def stands(uri: str | Path) -> int:
    """Which generation is whole at `uri`, every file of it compared; 0 where there is none."""
    if not storage.exists(uri):
        return 0
    stored = storage.read(uri, Corpus)
    generation = stored.facts.documents
    assert generation is not None
    files = {p.relative_to(stored.path).as_posix(): p.read_bytes() for p in stored.path.rglob("*") if p.is_file()}
    files.pop(MANIFEST)
    assert files == contents(generation)
    return generation


def message(error: type[HeadraceError], call: Callable[[], object]) -> str:
    with pytest.raises(error) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def flip(data: bytes) -> bytes:
    return data[:7] + bytes([data[7] ^ 1]) + data[8:]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    digest = write(tmp_path / "new" / "art", 3)
    assert stands(tmp_path / "new" / "art") == 3
    stored = storage.read(tmp_path / "new" / "art", Corpus)
    assert (stored.digest, stored.manifest.parents) == (digest, {"raw": "0" * 64})
    assert set(stored.manifest.files) == set(contents(3))
    assert storage.verify(tmp_path / "new" / "art").digest == digest
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["art"]


def test_equal_files_facts_and_parents_have_equal_digests_wherever_they_lie(tmp_path: Path) -> None:
    assert write(tmp_path / "a", 3) == write(tmp_path / "b", 3) != write(tmp_path / "c", 4)


def test_digest_given_when_writing_is_the_one_found_when_reading(tmp_path: Path) -> None:
    rules = (Rule(name="r", passed=True, reason="", numbers={"whole": 3}),)
    facts = Verdict(passed=True, candidate="c", champion=None, model="m", rules=rules)
    with storage.writing(tmp_path / "verdict") as tree:
        manifest = tree.commit(facts)
    assert storage.read_manifest(tmp_path / "verdict").digest == manifest.digest


def test_nothing_appears_before_it_is_whole_nor_without_a_commit(tmp_path: Path) -> None:
    with storage.writing(tmp_path / "art") as tree:
        (tree.path / "a.bin").write_bytes(b"a")
        tree.commit(FACTS)
        assert not (tmp_path / "art").exists()
    assert storage.exists(tmp_path / "art")
    with storage.writing(tmp_path / "other"):
        pass
    with pytest.raises(RuntimeError), storage.writing(tmp_path / "art") as tree:
        tree.commit(FACTS)
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["art"]
    assert (tmp_path / "art" / "a.bin").read_bytes() == b"a"


def test_a_replaced_artifact_keeps_nothing_of_the_old(tmp_path: Path) -> None:
    write(tmp_path / "art", 1)
    write(tmp_path / "art", 2)
    assert stands(tmp_path / "art") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["art"]


def test_replacing_needs_no_file_system_that_can_exchange_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "EXCHANGE", 2**20)  # a flag no kernel knows
    write(tmp_path / "art", 1)
    write(tmp_path / "art", 2)
    assert stands(tmp_path / "art") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["art"]


def test_an_empty_directory_or_a_link_may_stand_where_an_artifact_goes(tmp_path: Path) -> None:
    (tmp_path / "art").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "art")
    write(tmp_path / "link", 1)
    assert (tmp_path / "link").is_symlink()
    assert stands(tmp_path / "art") == 1


def test_files_that_are_no_artifact_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("work of years")
    (tmp_path / "file").write_text("also")
    for name in ("thesis", "file"):
        assert name in message(ConfigError, lambda name=name: write(tmp_path / name, 1))
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "work of years"
    assert (tmp_path / "file").read_text() == "also"


def test_a_directory_without_a_manifest_does_not_exist(tmp_path: Path) -> None:
    write(tmp_path / "art", 1)
    (tmp_path / "art" / MANIFEST).unlink()
    assert not storage.exists(tmp_path / "art")
    assert not storage.exists(tmp_path / "nowhere")
    for name in ("art", "nowhere"):
        told = message(IntegrityError, lambda name=name: storage.read(tmp_path / name, Corpus))
        assert told.startswith(f"{tmp_path / name} holds no manifest.json")


@pytest.mark.parametrize("name", ["a.bin", "deep/er/b.bin", "deep/manifest.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flipped", "short", "long", "missing"])
def test_a_damaged_file_is_found_and_named(tmp_path: Path, name: str, damage: str) -> None:
    write(tmp_path / "art", 1)
    file = tmp_path / "art" / name
    whole = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes({"flipped": flip(whole), "short": whole[:-1], "long": whole + b"\n"}[damage])
    for call in (lambda: storage.read(tmp_path / "art", Corpus), lambda: storage.verify(tmp_path / "art")):
        told = message(IntegrityError, call)
        assert str(file) in told or (name, damage) == (MANIFEST, "missing")
    if name != MANIFEST and damage != "flipped":
        assert str(file) in message(IntegrityError, lambda: storage.read(tmp_path / "art", Corpus, verify=False))


def test_an_empty_file_that_is_filled_is_found(tmp_path: Path) -> None:
    write(tmp_path / "art", 1)
    (tmp_path / "art" / "empty.bin").write_bytes(b"x")
    assert "empty.bin has 1 bytes" in message(IntegrityError, lambda: storage.verify(tmp_path / "art"))


def test_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "art", 1)
    told = message(MismatchError, lambda: storage.read(tmp_path / "art", Tokenizer))
    assert told == f"{tmp_path / 'art'} is of kind corpus, and tokenizer is wanted. Give the other path."


def write_forever(target: Path, seed: int) -> None:
    """Replace an artifact again and again, pausing at random within."""
    pick = random.Random(seed)
    for generation in range(2, 250):
        write(target, generation, lambda: time.sleep(pick.random() * 0.002))


@pytest.mark.parametrize("before", [0, 1])
def test_a_writer_killed_at_any_instant_leaves_no_artifact_or_a_whole_one(tmp_path: Path, before: int) -> None:
    pick = random.Random(before)
    began = time.monotonic()
    write(tmp_path / "timed" / "art", 1)
    once = time.monotonic() - began + 0.01
    seen = set()
    for attempt in range(25):
        target = tmp_path / f"{attempt}" / "art"
        if before:
            write(target, 1)
        process = multiprocessing.get_context("fork").Process(target=write_forever, args=(target, attempt), daemon=True)
        process.start()
        time.sleep(pick.random() * 5 * once)
        process.kill()
        process.join()
        generation = stands(target)
        assert generation >= before, "the old artifact is lost"
        seen.add(generation)
        write(target, 1)
        assert stands(target) == 1
        assert [path.name for path in target.parent.iterdir()] == ["art"], "what the killed writer left is swept up"
    assert len(seen) > 1, "the kills fell on different moments"


def write_and_die(target: Path, calls: int) -> None:
    """Replace an artifact and end without a farewell before the given system call of the last stretch."""
    left = [calls]

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def dying(*arguments: object, **options: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)
            return call(*arguments, **options)

        return dying

    for name in ("rename", "mkdir", "rmdir", "unlink", "fsync", "open"):
        setattr(os, name, counted(getattr(os, name)))
    write(target, 2)


def test_a_writer_that_dies_between_any_two_steps_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    write(tmp_path / "art", 1)
    seen = []
    for calls in range(200):
        process = multiprocessing.get_context("fork").Process(
            target=write_and_die, args=(tmp_path / "art", calls), daemon=True
        )
        process.start()
        process.join()
        seen.append(stands(tmp_path / "art"))
        if process.exitcode == 0:
            break
    assert process.exitcode == 0
    first_new = seen.index(2)
    assert seen == [1] * first_new + [2] * (len(seen) - first_new)
    assert first_new > 5


def test_a_living_writer_is_not_swept_away_by_another(tmp_path: Path) -> None:
    with storage.writing(tmp_path / "art") as slow:
        (slow.path / "a.bin").write_bytes(b"slow")
        write(tmp_path / "art", 1)
        assert (slow.path / "a.bin").read_bytes() == b"slow"
        slow.commit(FACTS)
    assert storage.read(tmp_path / "art", Corpus).facts == FACTS
    assert [path.name for path in tmp_path.iterdir()] == ["art"]


def test_artifacts_whose_names_begin_alike_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "art-2", 1)
    (tmp_path / "artist.partial-x").mkdir()
    (tmp_path / "[a]rt.partial-x").mkdir()
    write(tmp_path / "art", 1)
    write(tmp_path / "[a]rt", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["[a]rt", "art", "art-2", "artist.partial-x"]


def replace_text(path: Path) -> None:
    for n in range(10**6):
        storage.write_text(path, f"{n % 10}" * (1 + n % 5000), durable=False)


def test_a_text_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "said.json"
    storage.write_text(path, "Wasser fließt")
    assert path.read_text(encoding="utf-8") == "Wasser fließt"
    assert path.stat().st_mode & 0o777 == 0o666 & ~current_umask()
    writer = multiprocessing.get_context("fork").Process(target=replace_text, args=(path,), daemon=True)
    writer.start()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        text = path.read_text(encoding="utf-8")
        assert text == "Wasser fließt" or (text and set(text) == {text[0]})
    writer.kill()
    writer.join()
    with pytest.raises(UnicodeEncodeError):
        storage.write_text(tmp_path / "bad.json", "\ud800")
    assert [path.name for path in tmp_path.iterdir()] == ["sub"]


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def blob(uri: str) -> object:
    return buckets._blob(uri)


def test_a_tree_in_a_bucket_is_read_back_verified_into_the_cache(bucket: str, tmp_path: Path) -> None:
    assert not storage.exists(bucket)
    digest = write(bucket, 3)
    assert stands(bucket) == 3
    stored = storage.read(bucket, Corpus)
    assert stored.path == tmp_path / "cache" / digest
    assert stored.digest == digest == storage.read_manifest(bucket).digest
    assert buckets.list_objects(bucket) == sorted(f"{bucket}/{name}" for name in [*contents(3), MANIFEST])
    for spelled in (f"{bucket}/", bucket):
        assert storage.exists(spelled)
        assert write(spelled, 3) == digest
    assert buckets.list_objects(f"{bucket}-other") == []


def test_a_cached_copy_answers_without_the_files_and_heals_when_damaged(bucket: str) -> None:
    write(bucket, 3)
    cached = storage.read(bucket, Corpus).path
    for name in (MANIFEST, "a.bin"):
        for damaged in (b"", flip((cached / name).read_bytes())):
            (cached / name).write_bytes(damaged)
            assert stands(bucket) == 3
        (cached / name).unlink()
        assert stands(bucket) == 3
    blob(f"{bucket}/a.bin").delete()  # type: ignore[attr-defined]
    assert stands(bucket) == 3


def test_a_damaged_object_is_found_and_named(bucket: str) -> None:
    for damage in (lambda data: flip(data), lambda data: data[:-1]):
        write(bucket, 3)
        altered = blob(f"{bucket}/deep/er/b.bin")
        altered.upload_from_string(damage(altered.download_as_bytes()))  # type: ignore[attr-defined]
        told = message(IntegrityError, lambda: storage.read(bucket, Corpus))
        assert told.startswith(f"{bucket}/deep/er/b.bin ")
    blob(f"{bucket}/deep/er/b.bin").delete()  # type: ignore[attr-defined]
    told = message(IntegrityError, lambda: storage.read(bucket, Corpus))
    assert told.startswith(f"{bucket}/deep/er/b.bin is missing")
    altered = blob(f"{bucket}/{MANIFEST}")
    altered.upload_from_string(flip(altered.download_as_bytes()))  # type: ignore[attr-defined]
    assert message(IntegrityError, lambda: storage.read(bucket, Corpus)).startswith(f"{bucket}/{MANIFEST} is ")


def test_objects_without_a_manifest_do_not_exist(bucket: str) -> None:
    write(bucket, 3)
    blob(f"{bucket}/{MANIFEST}").delete()  # type: ignore[attr-defined]
    assert not storage.exists(bucket)
    assert f"{bucket} holds no manifest.json" in message(IntegrityError, lambda: storage.read(bucket, Corpus))


def test_a_replaced_tree_in_a_bucket_keeps_nothing_of_the_old_and_nothing_of_others_is_touched(bucket: str) -> None:
    blob(f"{bucket}/notes.txt").upload_from_string(b"mine")  # type: ignore[attr-defined]
    write(bucket, 1)
    write(bucket, 2)
    wanted = sorted(f"{bucket}/{name}" for name in [*contents(2), MANIFEST, "notes.txt"])
    assert buckets.list_objects(bucket) == wanted
    assert stands(bucket) == 2


def upload_and_die(uri: str, uploads: int) -> None:
    """Write to a bucket, and die instead of the given upload."""
    from google.cloud.storage import Blob

    whole, left = Blob._handle_filename_and_upload, [uploads]

    def dying(self: Blob, *arguments: object, **options: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        whole(self, *arguments, **options)

    Blob._handle_filename_and_upload = dying
    buckets._client.cache_clear()
    write(uri, 2)


@pytest.mark.parametrize("before", [0, 1])
def test_an_upload_that_dies_before_the_manifest_is_no_artifact(bucket: str, before: int) -> None:
    for uploads in range(len(contents(2)) + 1):
        if before:
            write(bucket, before)
        process = multiprocessing.get_context("fork").Process(
            target=upload_and_die, args=(bucket, uploads), daemon=True
        )
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        assert not storage.exists(bucket)
    write(bucket, 2)
    assert stands(bucket) == 2


def test_a_bucket_that_does_not_answer_is_named_in_seconds(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        monkeypatch.setattr(buckets, "QUESTION_SECONDS", 2)
        monkeypatch.setattr(buckets, "CONTENT_SECONDS", 2)
        buckets._client.cache_clear()
        began = time.monotonic()
        for call in (
            lambda: storage.read(bucket, Corpus),
            lambda: write(bucket, 2),
            lambda: buckets.open_object(f"{bucket}/a.bin").read(),
            lambda: buckets.list_objects(bucket),
            lambda: buckets.stamp(bucket),
        ):
            told = message(UnavailableError, call)
            assert told.startswith(bucket) and "cannot be reached" in told
        assert time.monotonic() - began < 20


def test_a_missing_bucket_and_a_missing_object_are_named(bucket: str) -> None:
    assert "gs://nowhere/x" in message(UnavailableError, lambda: write("gs://nowhere/x", 1))
    assert message(UnavailableError, lambda: buckets.open_object(f"{bucket}/x").read()).startswith(f"{bucket}/x ")
    assert message(UnavailableError, lambda: buckets.stamp(f"{bucket}/x")) == (
        f"{bucket}/x does not exist. Check the name."
    )


def test_a_generation_changes_with_the_bytes(bucket: str) -> None:
    seen = set()
    for data in (b"a", b"b", b"a"):
        blob(f"{bucket}/x").upload_from_string(data)  # type: ignore[attr-defined]
        seen.add(buckets.stamp(f"{bucket}/x"))
    assert len(seen) == 3


def test_an_object_larger_than_a_read_is_streamed_whole(bucket: str) -> None:
    data = random.Random(0).randbytes(3 * buckets.READ_BYTES + 11)
    blob(f"{bucket}/big").upload_from_string(data)  # type: ignore[attr-defined]
    with buckets.open_object(f"{bucket}/big") as file:
        assert b"".join(iter(lambda: file.read(100_003), b"")) == data


def test_a_copied_artifact_is_the_same_artifact(tmp_path: Path) -> None:
    digest = write(tmp_path / "art", 1)
    shutil.copytree(tmp_path / "art", tmp_path / "copy")
    assert storage.verify(tmp_path / "copy").digest == digest
