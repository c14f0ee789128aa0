"""Perplexity of held-out text, per token and in bits per byte, with its standard error over documents.

A document is read causally after `<|endoftext|>`, as in training; each of its tokens is scored once, in
windows where it is longer than the model's context. Tokens of one document are not independent, so
that errors are taken over documents (the ratio estimator of `estimate`).
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence

from headrace.data.documents import read_documents
from headrace.errors import DataError
from headrace.evaluation import estimate
from headrace.evaluation.lm import HeadraceLM
from headrace.evaluation.scores import Example, Measured, columns

UNNAMEABLE = re.compile(r"[^A-Za-z0-9_.\-]+")
"""What of a source's name is left out of the names of files and metrics."""
SHOWN_CHARACTERS = 200
"""Beginning of a document that is kept with its score."""


def run_perplexity(lm: HeadraceLM, name: str, files: Sequence[str]) -> dict[str, Measured]:
    """Score every document of the files, as a whole and for each source, such as a subset of the Pile.

    Args:
        lm: The model; its mask makes no difference to text without a prompt.
        name: What the documents are called in messages.
        files: Text documents as `headrace.data.documents` reads them; of instructions, prompt and target.

    Returns:
        The whole by `name`, and where there are several sources each of two documents or more by `name.source`.

    Raises:
        DataError: A file that cannot be read, or fewer than two documents.
    """
    documents = [document for uri in files for document in read_documents(uri)]
    if len(documents) < 2:
        raise DataError(f"{name} has {len(documents)} document(s), and a standard error needs two. Add documents.")
    examples = _score(lm, [document.text or document.prompt + document.target for document in documents])
    sources = defaultdict(list)
    for document, example in zip(documents, examples, strict=True):
        sources[UNNAMEABLE.sub("_", document.source).strip("_")].append(example)
    several = {f"{name}.{source}": some for source, some in sorted(sources.items()) if len(some) > 1 < len(sources)}
    return {part: _sum_up(part, some) for part, some in {name: examples, **several}.items()}


def _score(lm: HeadraceLM, texts: Sequence[str]) -> list[Example]:
    return [
        Example(
            id=f"{number}-{hashlib.sha256(text.encode()).hexdigest()[:12]}",
            scores={"perplexity": score.nats, "bits_per_byte": score.nats},
            weights={"perplexity": score.tokens, "bits_per_byte": len(text.encode())},
            target=text[:SHOWN_CHARACTERS],
            loglikelihoods=[score.nats],
        )
        for number, (text, score) in enumerate(zip(texts, lm.score_texts(texts), strict=True))
    ]


def _sum_up(name: str, examples: list[Example]) -> Measured:
    return Measured(
        {
            "perplexity": estimate.perplexity(*columns(examples, "perplexity"), f"{name}/perplexity"),
            "bits_per_byte": estimate.bits(*columns(examples, "bits_per_byte"), f"{name}/bits_per_byte"),
        },
        examples,
    )
