import io
import itertools
import json
import random
import re
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from headrace import storage
from headrace.artifacts import Corpus
from headrace.data.documents import Document, list_sources, read_documents, sealed_parents
from headrace.data.quarantine import Quarantine
from headrace.errors import ConfigError, DataError

LINES = [
    {"text": "Wasser fließt.\nÜber die Mühle.", "source": "mill"},
    {"text": "水は流れる", "meta": {"pile_set_name": "Wikipedia (en)"}},
    {"prompt": "Input: Switzerland Output:", "target": " Swiss Franc"},
]
WANTED = [
    ("mill", "Wasser fließt.\nÜber die Mühle.", "", ""),
    ("Wikipedia (en)", "水は流れる", "", ""),
    ("corpus", "", "Input: Switzerland Output:", " Swiss Franc"),
]


def contents(uri: object) -> list[tuple[str, str, str, str]]:
    """Source, text, prompt and target of every document."""
    return [(found.source, found.text, found.prompt, found.target) for found in read_documents(str(uri))]


def as_jsonl(lines: list[dict[str, object]], *, ascii_only: bool = True) -> bytes:
    return "".join(json.dumps(line, ensure_ascii=ascii_only) + "\n" for line in lines).encode()


def compressed(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n  \n"])
def test_lines_become_documents_with_their_sources(tmp_path: Path, ascii_only: bool, end: bytes) -> None:
    (tmp_path / "corpus.jsonl").write_bytes(as_jsonl(LINES, ascii_only=ascii_only).rstrip() + end)
    documents = list(read_documents(str(tmp_path / "corpus.jsonl")))
    assert contents(tmp_path / "corpus.jsonl") == WANTED
    assert [(found.file, found.line) for found in documents] == [(str(tmp_path / "corpus.jsonl"), n) for n in (1, 2, 3)]


def test_compressed_lines_are_the_same_documents_in_any_number_of_frames(tmp_path: Path) -> None:
    data = as_jsonl(LINES)
    cuts = [0, 5, len(data) // 2, len(data)]
    frames = [compressed(data[start:stop]) for start, stop in itertools.pairwise(cuts)]
    (tmp_path / "corpus.jsonl.zst").write_bytes(b"".join(frames))
    assert contents(tmp_path / "corpus.jsonl.zst") == WANTED


def test_a_text_file_is_one_document_to_the_last_byte(tmp_path: Path) -> None:
    text = "  Erste Zeile\r\n\n\tzweite\u2028Zeile\n"
    (tmp_path / "mill.txt").write_bytes(text.encode())
    assert list(read_documents(str(tmp_path / "mill.txt"))) == [
        Document(source="mill", text=text, file=str(tmp_path / "mill.txt"), line=1)
    ]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfwater")
    (tmp_path / "b.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "wheel"}\n')
    assert [document.text for document in read_documents(str(tmp_path))] == ["water", "wheel"]


def test_lines_longer_than_a_block_and_line_separators_within_them_survive(tmp_path: Path) -> None:
    texts = ["x" * 700_001, "a\u2028b\u0085c\x0bd", "y" * 300_000]
    (tmp_path / "corpus.jsonl").write_bytes(as_jsonl([{"text": text} for text in texts], ascii_only=False))
    assert [document.text for document in read_documents(str(tmp_path / "corpus.jsonl"))] == texts


def test_faults_are_set_apart_with_their_lines_and_stop_nothing(tmp_path: Path) -> None:
    lines = [b'{"text": "a"}', b"{", b"", b'{"text": ""}', b"\xff", b"7", b'{"prompt": "b", "target": "c"}', b"", b" "]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    (tmp_path / "b.txt").write_bytes(b"\xff")
    (tmp_path / "c.jsonl").write_bytes(b'{"text": "d"}')
    quarantine = Quarantine(1.0)
    found = [document.text + document.prompt for document in read_documents(str(tmp_path), quarantine=quarantine)]
    assert (found, quarantine.good) == (["a", "b", "d"], 3)
    a, b = str(tmp_path / "a.jsonl"), str(tmp_path / "b.txt")
    assert [(fault.file, fault.line) for fault in quarantine.faults] == [*((a, n) for n in (2, 3, 4, 5, 6)), (b, 0)]
    reasons = " | ".join(fault.reason for fault in quarantine.faults)
    assert re.fullmatch(
        r"is broken JSON .* \| is blank \| has an empty 'text' \| is not UTF-8: byte 0 is 0xff \| "
        r"is a JSON int, not an object \| is not UTF-8: byte 0 is 0xff",
        reasons,
    )


def test_a_file_that_cannot_be_unpacked_is_refused_quarantine_or_not(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl.zst").write_bytes(compressed(as_jsonl(LINES * 99))[:-9])
    with pytest.raises(DataError, match="truncated"):
        list(read_documents(str(tmp_path), quarantine=Quarantine(1.0)))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b/2.jsonl", "b/1.jsonl.zst", "a.txt", "README.md", "manifest.json"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        data = b'{"text": "%s"}\n' % name.encode()
        path.write_bytes(compressed(data) if name.endswith(".zst") else data)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("", ["a.txt", "b/1.jsonl.zst", "b/2.jsonl"]),
        ("b", ["b/1.jsonl.zst", "b/2.jsonl"]),
        ("b/2.jsonl", ["b/2.jsonl"]),
        ("*.txt", ["a.txt"]),
        ("b/*", ["b/1.jsonl.zst", "b/2.jsonl"]),
        ("**/[12].json*", ["b/1.jsonl.zst", "b/2.jsonl"]),
    ],
)
def test_directories_and_globs_become_sorted_files(tree: Path, pattern: str, names: list[str]) -> None:
    assert list_sources(str(tree / pattern)) == [str(tree / name) for name in names]


def test_relative_globs_are_taken_from_the_working_directory(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    assert list_sources("*.txt") == ["a.txt"]
    assert list_sources("b/*.jsonl") == ["b/2.jsonl"]


def test_documents_without_a_source_are_named_after_the_corpus(tree: Path) -> None:
    assert {document.source for document in read_documents(str(tree / "b/*"))} == {"b"}
    assert {document.source for document in read_documents(str(tree / "b/2.jsonl"))} == {"2"}


@pytest.mark.parametrize(
    ("name", "data", "complaint"),
    [
        ("c.jsonl", b"", r"c\.jsonl is empty"),
        ("c.jsonl", b"\n \n", r"c\.jsonl is empty"),
        ("c.json", b" ", r"c\.json is empty"),
        ("c.tsv", b"", r"c\.tsv is empty"),
        ("c.jsonl", b'{"text": ""}\n', r"c\.jsonl:1 has an empty 'text'"),
        ("c.txt", b"", r"c\.txt is empty"),
        ("c.txt", b"water\xff", r"c\.txt is not UTF-8: byte 5 is 0xff"),
        ("c.jsonl", b'{"text": "a"}\n{"text": "\xe4"}\n', r"c\.jsonl:2 is not UTF-8: byte 10 is 0xe4"),
        ("c.jsonl", b'{"text": "a"}\n\n{"text": "b"}\n', r"c\.jsonl:2 is blank"),
        ("c.jsonl", b'{"text": "a"}\n{"text": "b"\n', r"c\.jsonl:2 is broken JSON"),
        ("c.jsonl", b'{"text": "\\ud800"}\n', r"c\.jsonl:1 has half a surrogate pair"),
        ("c.jsonl", b'{"text": "\\udc00 a"}\n', r"c\.jsonl:1 has half a surrogate pair"),
        ("c.jsonl", b"[" * 100_000, r"c\.jsonl:1 is broken JSON"),
        ("c.jsonl", b'["text"]\n', r"c\.jsonl:1 is a JSON list"),
        ("c.jsonl", b'{"txt": "a"}\n', r"c\.jsonl:1 has no 'prompt'"),
        ("c.jsonl", b'{"prompt": "a"}\n', r"c\.jsonl:1 has no 'target'"),
        ("c.jsonl", b'{"prompt": "a", "target": ""}\n', r"c\.jsonl:1 has an empty 'target'"),
        ("c.jsonl", b'{"text": 7}\n', r"c\.jsonl:1 has a 'text' of type int"),
        ("c.jsonl.zst", as_jsonl(LINES), r"c\.jsonl\.zst is not sound zstandard data"),
        ("c.jsonl.zst", compressed(as_jsonl(LINES * 99))[:-9], r"c\.jsonl\.zst is truncated"),
        ("c.jsonl.zst", compressed(as_jsonl(LINES)) + compressed(as_jsonl(LINES))[:9], r"c\.jsonl\.zst is truncated"),
        ("c.jsonl.zst", b"", r"c\.jsonl\.zst is empty"),
        ("c.csv", b"a,b\n", r"holds no \.jsonl\.zst, \.jsonl, \.json, \.tsv, \.txt file"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path, name: str, data: bytes, complaint: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=complaint) as refusal:
        list(read_documents(str(tmp_path)))
    assert "\n" not in str(refusal.value)


def test_flipped_bytes_in_compressed_data_never_pass_as_text(tmp_path: Path) -> None:
    compressor = zstandard.ZstdCompressor(write_checksum=True)
    data = compressor.compress(as_jsonl([{"text": f"{n} turns of the wheel {n * n}"} for n in range(200)]))
    for place in random.Random(0).sample(range(len(data)), 60):
        (tmp_path / "c.jsonl.zst").write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        with pytest.raises(DataError):
            list(read_documents(str(tmp_path)))


def test_an_unknown_format_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'natural_instructions'"):
        list(read_documents(str(tmp_path), format="natural_instruction"))


@pytest.mark.parametrize("name", ["nowhere", "nowhere/*.jsonl", "nowhere.txt"])
def test_a_missing_corpus_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"nowhere.* does not exist"):
        list(read_documents(str(tmp_path / name)))


def test_a_folder_without_a_file_is_not_called_missing(tmp_path: Path) -> None:
    (tmp_path / "empty" / "00.jsonl").mkdir(parents=True)
    with pytest.raises(DataError, match=r"empty holds no \.jsonl\.zst, .* file"):
        list(read_documents(str(tmp_path / "empty")))


def test_one_empty_file_among_others_is_named(tree: Path) -> None:
    (tree / "b/3.jsonl").touch()
    with pytest.raises(DataError, match=r"b/3\.jsonl is empty"):
        list(read_documents(str(tree)))


def peak_bytes(action: Callable[[], object]) -> int:
    tracemalloc.start()
    action()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    line = random.Random(0).randbytes(4000).hex()
    stream = io.BytesIO()
    with zstandard.ZstdCompressor().stream_writer(stream, closefd=False) as writer:
        for number in range(3000):
            writer.write(as_jsonl([{"text": f"{number} {line}"}]))
    (tmp_path / "c.jsonl.zst").write_bytes(stream.getvalue())

    def consume() -> int:
        return sum(len(document.text) for document in read_documents(str(tmp_path)))

    assert consume() > 24e6
    assert peak_bytes(consume) < 8e6


def test_a_document_of_100_megabytes_is_read_whole_between_its_neighbours(tmp_path: Path) -> None:
    text = "Über die Mühle. " * 2**22 + "水" * 2**23
    (tmp_path / "c.jsonl.zst").write_bytes(
        compressed(as_jsonl([{"text": t} for t in ("a", text, "b")], ascii_only=False))
    )
    found = list(read_documents(str(tmp_path)))
    assert len(text.encode()) > 100e6
    assert [document.line for document in found] == [1, 2, 3]
    assert found[1].text == text


def test_a_sealed_corpus_is_read_and_its_digest_given_as_a_parent(tmp_path: Path) -> None:
    with storage.writing(tmp_path / "made") as made:
        (made.path / "prose-0.jsonl").write_bytes(as_jsonl(LINES[:2]))
        manifest = made.commit(Corpus(documents=2, sources={"mill": 1, "Wikipedia (en)": 1}))
    assert contents(tmp_path / "made") == WANTED[:2]
    uris = [str(tmp_path / "made"), f"{tmp_path}/made/prose-*.jsonl", f"{tmp_path}/made/prose-0.jsonl"]
    for uri in uris:
        assert sealed_parents([uri]) == {"corpus": manifest.digest}
    assert sealed_parents(uris) == {"corpus": manifest.digest}
    assert sealed_parents([str(tmp_path)]) == {}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    from gcp_storage_emulator.server import create_server
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage as cloud

    from headrace import buckets

    server = create_server("localhost", 0, in_memory=True, default_bucket="corpora")
    server.start()
    port = server._api._httpd.socket.getsockname()[1]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://localhost:{port}")
    buckets._client.cache_clear()
    client = cloud.Client(project="emulated", credentials=AnonymousCredentials())
    for name, data in (("pile/0.jsonl", as_jsonl(LINES[:1])), ("pile/1.jsonl.zst", compressed(as_jsonl(LINES[1:])))):
        client.bucket("corpora").blob(name).upload_from_string(data)
    yield "gs://corpora/pile"
    server.stop()
    buckets._client.cache_clear()


def test_documents_are_streamed_out_of_a_bucket(bucket: str) -> None:
    assert contents(bucket) == [*WANTED[:2], ("pile", *WANTED[2][1:])]
    assert [found.file for found in read_documents(bucket)] == [f"{bucket}/0.jsonl", *[f"{bucket}/1.jsonl.zst"] * 2]
    assert list_sources(f"{bucket}/*.zst") == [f"{bucket}/1.jsonl.zst"]
    assert list_sources(f"{bucket}/0.jsonl") == [f"{bucket}/0.jsonl"]
    with pytest.raises(DataError, match="does not exist"):
        list_sources("gs://corpora/nothing")
