"""Documents to ids, batch by batch, in any number of threads.

Shape letter: N documents of a batch.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.data.documents import Document
from headrace.data.tokenizer import END_OF_TEXT, TextTokenizer
from headrace.errors import DataError


class Encoded(NamedTuple):
    """A batch of documents as ids."""

    ids: npt.NDArray[np.uint32]
    """Documents end to end, each closed by its end-of-text."""
    ends_N: npt.NDArray[np.int64]
    """Where each document ends in `ids`."""
    prompts_N: npt.NDArray[np.int64]
    """Prompt tokens of each."""
    sources: Sequence[str]
    origins: Sequence[str]
    """The input file of each."""
    lines: Sequence[int]


def cut_batches(documents: Iterable[Document], most_documents: int, most_characters: int) -> Iterator[list[Document]]:
    """Group documents up to a number of them and a number of characters."""
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text) + len(document.prompt) + len(document.target)
        if len(batch) == most_documents or characters >= most_characters:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


class Encoder:
    """Encodes batches, in any number of threads."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._of_thread = threading.local()

    def __call__(self, batch: Sequence[Document]) -> Encoded:
        """Encode prompt, rest and end-of-text of each document; a plain one has an empty prompt.

        Prompt and target are encoded apart, so that a prompt has the same ids whatever follows it.
        """
        if not hasattr(self._of_thread, "encode"):
            self._of_thread.encode = self._tokenizer.encoder()
        pieces = [piece for one in batch for piece in (one.prompt, one.text or one.target, END_OF_TEXT)]
        try:
            ids, ends = self._of_thread.encode(pieces)
        except (TypeError, UnicodeError) as error:
            raise _unencodable(batch) or error from error
        starts_N = np.concatenate([[0], ends[2:-1:3]])
        return Encoded(
            ids=ids,
            ends_N=ends[2::3],
            prompts_N=ends[::3] - starts_N,
            sources=[document.source for document in batch],
            origins=[document.file for document in batch],
            lines=[document.line for document in batch],
        )


def _unencodable(batch: Sequence[Document]) -> DataError | None:
    """The error about the first document whose text is no UTF-8; None where all are."""
    for document in batch:
        try:
            (document.prompt + document.text + document.target).encode()
        except UnicodeEncodeError:
            where = f"{document.file}:{document.line}"
            return DataError(f"{where} has half a surrogate pair, which is no UTF-8. Repair or remove the document.")
    return None
