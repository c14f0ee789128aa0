import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace import buckets, storage
from headrace.artifacts import Corpus
from headrace.data import corpus
from headrace.data.companions import companions
from headrace.data.corpus import CorpusConfig, confirm, gather_corpus, locate, pieces, read_piece, split_pieces, splits
from headrace.data.source_files import Piece
from headrace.errors import ConfigError, DataError, IntegrityError

LINE = '{"text": "a river"}\n'


@pytest.fixture(autouse=True)
def _file_by_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """One piece a file, but where a test is about small ones that go together."""
    monkeypatch.setattr(corpus, "BUNDLE_BYTES", 0)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    for name in ("text-0.jsonl", "text-1.jsonl", "asked.jsonl", "exam.jsonl"):
        (folder / name).write_text(LINE)
    return folder


def gathered(files: Path) -> tuple[Path, Corpus]:
    places = {"text": "text-*.jsonl", "instructions": "asked.jsonl", "exam": "exam.jsonl"}
    config = CorpusConfig(files={split: str(files / name) for split, name in places.items()})
    out = files.parent / "out"
    gather_corpus(config, out)
    return out, storage.read(out, Corpus).facts


def test_files_are_referenced_by_split_and_those_trained_on_become_pieces(files: Path) -> None:
    out, facts = gathered(files)
    assert splits(out) == {
        "exam": [str(files / "exam.jsonl")],
        "instructions": [str(files / "asked.jsonl")],
        "text": [str(files / "text-0.jsonl"), str(files / "text-1.jsonl")],
    }
    assert (facts.documents, facts.sources) == (None, {"exam": 1, "instructions": 1, "text": 2})
    assert set(facts.references) == {str(path) for path in files.iterdir()}
    assert [(found.split, found.uri) for found in (locate(out, piece) for piece in pieces(out))] == [
        ("instructions", str(files / "asked.jsonl")),
        ("text", str(files / "text-0.jsonl")),
        ("text", str(files / "text-1.jsonl")),
    ]


def test_facts_lie_inside_the_corpus_and_move_with_it(tmp_path: Path) -> None:
    gather_corpus(CorpusConfig(kind="facts"), tmp_path / "here")
    named = pieces(tmp_path / "here")
    assert {piece.partition("=")[0] for piece in named} == {"text", "instructions"}
    assert str(tmp_path) not in " ".join(named)
    (tmp_path / "here").rename(tmp_path / "there")
    assert pieces(tmp_path / "there") == named
    assert all(Path(locate(tmp_path / "there", piece).uri).is_file() for piece in named)
    assert {"text", "instructions", "heldout", "heldout_text"} <= set(splits(tmp_path / "there"))


@pytest.mark.parametrize(
    "alter",
    [
        lambda path: path.write_text(LINE.replace("river", "rover")),
        lambda path: path.write_text(LINE + LINE),
        lambda path: path.unlink(),
    ],
    ids=["altered", "longer", "gone"],
)
def test_a_corpus_holds_until_a_file_it_refers_to_changes(files: Path, alter: Callable[[Path], None]) -> None:
    _, facts = gathered(files)
    confirm(facts)
    alter(files / "exam.jsonl")
    with pytest.raises(IntegrityError, match=r"exam\.jsonl changed since"):
        confirm(facts)


def test_another_content_under_the_same_names_is_another_corpus(files: Path) -> None:
    out, _ = gathered(files)
    before = storage.read(out, Corpus).digest
    gathered(files)
    assert storage.read(out, Corpus).digest == before
    (files / "text-1.jsonl").write_text(LINE + LINE)
    gathered(files)
    assert storage.read(out, Corpus).digest != before


def test_what_is_not_there_is_refused_by_name(files: Path) -> None:
    out, _ = gathered(files)
    assert [piece.uri for piece in split_pieces(out, "exam")] == [str(files / "exam.jsonl")]
    with pytest.raises(ConfigError, match=r"no split 'exams'\. Known: exam, instructions, text"):
        split_pieces(out, "exams")
    with pytest.raises(DataError, match=r"none\.jsonl does not exist"):
        gather_corpus(CorpusConfig(files={"text": str(files / "none.jsonl")}), files / "never")
    assert not (files / "never").exists()
    with pytest.raises(ConfigError, match=r"Set corpus\.files\.text=PATH"):
        CorpusConfig()


def test_a_relative_path_is_found_from_another_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "corpus_raw").mkdir()
    (tmp_path / "corpus_raw" / "a.jsonl").write_text('{"text": "one"}\n')
    monkeypatch.chdir(tmp_path)
    gather_corpus(CorpusConfig(files={"text": "corpus_raw"}), tmp_path / "corpus")
    monkeypatch.chdir("/")
    (piece,) = pieces(tmp_path / "corpus")
    there = tmp_path / "corpus_raw" / "a.jsonl"
    stamp = f"{there.stat().st_size}:{hashlib.sha256(there.read_bytes()).hexdigest()}"
    wanted = Piece(split="text", uri=str(there), bytes=there.stat().st_size, stamps=(stamp,))
    assert locate(tmp_path / "corpus", piece) == wanted


def test_small_files_of_a_kind_are_read_together_up_to_a_size(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2, 7):
        (files / f"text-{number}.jsonl").write_text(LINE * number)
    monkeypatch.setattr(corpus, "BUNDLE_BYTES", 4 * len(LINE))
    out, _ = gathered(files)
    found = [locate(out, name) for name in pieces(out)]
    texts = [[Path(uri).stem for uri in (piece.uri, *piece.more)] for piece in found if piece.split == "text"]
    assert texts == [["text-0", "text-1", "text-2"], ["text-3"], ["text-4"], ["text-5"], ["text-6"]]
    assert [name.rpartition("/")[2] for name in pieces(out)][:2] == ["asked.jsonl", "text-0.jsonl+2"]
    read = [(Path(document.file).stem, document.line) for document in read_piece(found[1])]
    assert read == [("text-0", 1), ("text-1", 1), ("text-2", 1), ("text-2", 2)]


def test_documents_inside_a_corpus_are_named_without_where_it_lies(tmp_path: Path) -> None:
    read = []
    for place in ("here", "there"):
        gather_corpus(CorpusConfig(kind="facts"), tmp_path / place)
        piece = locate(tmp_path / place, "instructions=instructions.jsonl")
        read.append([(document.file, document.line) for document in read_piece(piece)])
    assert read[0] == read[1]
    assert read[0][0] == ("instructions.jsonl", 1)


@pytest.fixture
def exams(tmp_path: Path) -> Path:
    """Evaluation data that is read from several files: labels beside rows, and a task of RAFT."""
    folder = tmp_path / "exams"
    (folder / "tweets").mkdir(parents=True)
    contents = {"piqa.jsonl": "{}", "piqa-labels.lst": "1", "prompt_construction_settings.jsonl": "{}"}
    for name, text in (contents | {"tweets/task.json": "{}", "tweets/train.csv": "Tweet,Label"}).items():
        (folder / name).write_text(f"{text}\n")
    return folder


READ_WITH = ["piqa-labels.lst", "prompt_construction_settings.jsonl", "tweets/train.csv"]


def gathered_exams(exams: Path) -> Path:
    text = exams.parent / "text.jsonl"
    text.write_text(LINE)
    files = {"text": text, "piqa": exams / "piqa.jsonl", "tweets": exams / "tweets" / "task.json"}
    gather_corpus(CorpusConfig(files={split: str(path) for split, path in files.items()}), exams.parent / "out")
    return exams.parent / "out"


def test_every_file_of_evaluation_data_is_sealed_by_size_and_hash(exams: Path) -> None:
    files = [exams.parent / "text.jsonl", *(path for path in exams.rglob("*") if path.is_file())]
    stamps = {str(path): f"{path.stat().st_size}:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files[1:]}
    gathered = gathered_exams(exams)
    text = {str(files[0]): f"{len(LINE)}:{hashlib.sha256(LINE.encode()).hexdigest()}"}
    assert storage.read(gathered, Corpus).facts.references == stamps | text
    assert splits(gathered)["tweets"] == [str(exams / "tweets" / "task.json")]
    read = {file for split in ("piqa", "tweets") for uri in splits(gathered)[split] for file in [uri, *companions(uri)]}
    assert read == set(stamps)


@pytest.mark.parametrize("name", ["piqa.jsonl", "tweets/task.json", *READ_WITH])
def test_evaluation_data_that_changed_after_it_was_gathered_is_not_handed_on(name: str, exams: Path) -> None:
    gathered = gathered_exams(exams)
    before, facts = storage.read(gathered, Corpus).digest, storage.read(gathered, Corpus).facts
    (exams / name).write_text("[]\n")
    for look in (lambda: splits(gathered), lambda: confirm(facts)):
        with pytest.raises(IntegrityError, match=rf"{name} changed since the corpus was gathered\. Gather it again"):
            look()
    assert storage.read(gathered_exams(exams), Corpus).digest != before
    assert set(splits(gathered)) == {"text", "piqa", "tweets"}


@pytest.mark.parametrize("name", READ_WITH)
def test_a_file_read_with_evaluation_data_that_comes_or_goes_is_noticed(name: str, exams: Path) -> None:
    gathered = gathered_exams(exams)
    kept = (exams / name).read_text()
    (exams / name).unlink()
    with pytest.raises(IntegrityError, match=rf"{name} changed since"):
        splits(gathered)
    gathered = gathered_exams(exams)
    (exams / name).write_text(kept)
    with pytest.raises(IntegrityError, match=rf"{name} changed since"):
        splits(gathered)


def test_text_that_is_trained_on_may_change_once_it_is_encoded(files: Path) -> None:
    out, _ = gathered(files)
    (files / "text-0.jsonl").unlink()
    assert set(splits(out)) == {"text", "instructions", "exam"}


def test_evaluation_data_in_a_bucket_is_known_by_the_generation_of_each_object(bucket: str, files: Path) -> None:
    for name, text in (("p.jsonl", "{}"), ("p-labels.lst", "1")):
        buckets.write_bytes(f"{bucket}/{name}", text.encode())
    config = CorpusConfig(files={"text": str(files / "text-0.jsonl"), "piqa": f"{bucket}/p.jsonl"})
    gather_corpus(config, files.parent / "out")
    labels = storage.read(files.parent / "out", Corpus).facts.references[f"{bucket}/p-labels.lst"]
    assert labels.startswith("1:generation:")
    assert splits(files.parent / "out")["piqa"] == [f"{bucket}/p.jsonl"]
    buckets.write_bytes(f"{bucket}/p-labels.lst", b"0")
    with pytest.raises(IntegrityError, match=r"p-labels\.lst changed since"):
        splits(files.parent / "out")
