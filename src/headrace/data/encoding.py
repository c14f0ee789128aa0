"""Documents to ids, batch by batch, in any number of threads.

Shape letters: N documents of a batch, P = 3 * N pieces of text.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.data.documents import Document
from headrace.data.tokenizer import END_OF_TEXT, TextTokenizer
from headrace.errors import DataError

END = END_OF_TEXT.encode()


class Batch(NamedTuple):
    """Documents to be encoded together."""

    pieces_P: list[bytes]
    """Prompt, what follows it, and end-of-text of each; UTF-8. A plain document has an empty prompt."""
    sources: list[str]
    origins: list[str]
    """The input file of each."""
    lines: list[int]


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


def cut_batches(documents: Iterable[Document], most_documents: int, most_characters: int) -> Iterator[Batch]:
    """Group documents up to a number of them and a number of characters.

    Raises:
        DataError: A text is no UTF-8.
    """
    batch, characters = Batch([], [], [], []), 0
    for document in documents:
        batch.pieces_P.extend(_pieces(document))
        batch.sources.append(document.source)
        batch.origins.append(document.file)
        batch.lines.append(document.line)
        characters += len(document.prompt) + len(document.text) + len(document.target)
        if len(batch.lines) == most_documents or characters >= most_characters:
            yield batch
            batch, characters = Batch([], [], [], []), 0
    if batch.lines:
        yield batch


def _pieces(document: Document) -> tuple[bytes, bytes, bytes]:
    """Prompt, rest and end as UTF-8: made while a processor's cache still holds what was read."""
    try:
        return document.prompt.encode(), (document.text or document.target).encode(), END
    except UnicodeEncodeError as error:
        where = f"{document.file}:{document.line}"
        raise DataError(
            f"{where} has half a surrogate pair, which is no UTF-8. Repair or remove the document."
        ) from error


class Encoder:
    """Encodes batches, in any number of threads."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._of_thread = threading.local()

    def __call__(self, batch: Batch) -> Encoded:
        """Encode prompt, rest and end-of-text of each document.

        Prompt and target are encoded apart, so that a prompt has the same ids whatever follows it.
        """
        if not hasattr(self._of_thread, "encode"):
            self._of_thread.encode = self._tokenizer.encoder()
        ids, ends_P = self._of_thread.encode(batch.pieces_P)
        starts_N = np.concatenate([[0], ends_P[2:-1:3]])
        return Encoded(ids, ends_P[2::3], ends_P[::3] - starts_N, batch.sources, batch.origins, batch.lines)
