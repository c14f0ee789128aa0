"""Perplexity of held-out text, per token and in bits per byte, with its standard error over documents.

A document is read causally after `<|endoftext|>`, as in training; each of its tokens is scored once, in
windows where it is longer than the model's context. Tokens of one document are not independent, so
that errors are taken over documents (the ratio estimator of `estimate`).
"""

import hashlib
from collections.abc import Sequence

from headrace.data.documents import read_documents
from headrace.errors import DataError
from headrace.evaluation import estimate
from headrace.evaluation.lm import HeadraceLM
from headrace.evaluation.scores import Example, Measured, columns

SHOWN_CHARACTERS = 200
"""Beginning of a document that is kept with its score."""


def run_perplexity(lm: HeadraceLM, name: str, files: Sequence[str]) -> Measured:
    """Score every document of the files.

    Args:
        lm: The model; its mask makes no difference to text without a prompt.
        name: What the documents are called in messages.
        files: Text documents as `headrace.data.documents` reads them; of instructions, prompt and target.

    Raises:
        DataError: A file that cannot be read, or fewer than two documents.
    """
    documents = (document for uri in files for document in read_documents(uri))
    texts = [document.text or document.prompt + document.target for document in documents]
    if len(texts) < 2:
        raise DataError(f"{name} has {len(texts)} document(s), and a standard error needs two. Add documents.")
    examples = [
        Example(
            id=f"{number}-{hashlib.sha256(text.encode()).hexdigest()[:12]}",
            scores={"perplexity": score.nats, "bits_per_byte": score.nats},
            weights={"perplexity": score.tokens, "bits_per_byte": len(text.encode())},
            target=text[:SHOWN_CHARACTERS],
            loglikelihoods=[score.nats],
        )
        for number, (text, score) in enumerate(zip(texts, lm.score_texts(texts), strict=True))
    ]
    return Measured(
        {
            "perplexity": estimate.perplexity(*columns(examples, "perplexity"), f"{name}/perplexity"),
            "bits_per_byte": estimate.bits(*columns(examples, "bits_per_byte"), f"{name}/bits_per_byte"),
        },
        examples,
    )
