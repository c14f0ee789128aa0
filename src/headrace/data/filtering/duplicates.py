"""Duplicates of documents: exact ones by digest, near ones by MinHash.

Exact means equal after white space at both ends is taken off, and nothing else: what differs in one
character is for MinHash, which estimates the Jaccard similarity of two documents' sets of word 5-grams.
Candidates share a band of their signatures (locality-sensitive hashing); only those whose whole signatures
agree often enough are duplicates.

Documents are decided in order: one is left out if it is a duplicate of an earlier one that is kept. So the
first of a cluster stays, whatever is left out has its like among what is kept, and a chain of small changes
does not take its far end with it.

Source: Lee et al., Deduplicating Training Data Makes Language Models Better, arXiv:2107.06499 (5-grams, 0.8);
Broder, On the resemblance and containment of documents, 1997 (MinHash).

Shape letters: D documents, W words, S shingles, P permutations, B bands, R values a band.
"""

import hashlib
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from headrace.data.documents import Document
from headrace.data.filtering.words import Counts, Hashes, Words, mix, ngrams

Signatures: TypeAlias = npt.NDArray[np.uint32]
DIGEST_BYTES = 16
EMPTY = 2**32 - 1
"""What a signature consists of where there is no word to sign."""
PART_WORDS = 2**20
"""Signed at a time of a longer document, so that memory does not follow its length."""
MISSED = 0.01
"""Share of pairs just at the threshold that bands may fail to bring together."""


def digest(document: Document) -> bytes:
    """Identity of a document's text, 16 bytes; an instruction's prompt and target are told apart."""
    parts = (document.text,) if document.text else (document.prompt, document.target)
    text = "\0".join(part.strip() for part in parts)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


def shingles(words: Words, length: int) -> tuple[Hashes, Counts]:
    """Hashes of each document's word n-grams, and how many there are; a shorter document is one by itself."""
    counts_D, first_D = words.counts_D, words.first_D
    hashes_W = np.zeros(len(words.hashes_W), np.uint64)
    whole = ngrams(words.hashes_W, length)
    hashes_W[: len(whole)] = whole
    begins_W = np.ones(len(hashes_W), bool)
    for back in range(1, length):
        begins_W[(first_D + counts_D - back)[counts_D > back]] = False
        short_D = first_D[counts_D == back]
        hashes_W[short_D] = ngrams(words.hashes_W, back)[short_D] if len(short_D) else 0
    shingles_D = np.where(counts_D >= length, counts_D - length + 1, counts_D > 0)
    return hashes_W[begins_W], shingles_D


def sign_words(words: Words, length: int, permutations: int, seed: int) -> Signatures:
    """MinHash signatures [D, P] of documents; `EMPTY` throughout for one without a word."""
    long_D = words.counts_D > PART_WORDS
    signatures_DP = np.empty((len(long_D), permutations), np.uint32)
    signatures_DP[~long_D] = _sign(words.where(~long_D), length, permutations, seed)
    for number in np.flatnonzero(long_D).tolist():
        first, count = words.first_D[number], words.counts_D[number]
        signatures_DP[number] = _sign_long(words.hashes_W[first : first + count], length, permutations, seed)
    return signatures_DP


def _sign(words: Words, length: int, permutations: int, seed: int) -> Signatures:
    from rensa import RMinHash

    hashes_S, shingles_D = shingles(words, length)
    ends = np.concatenate([[0], np.cumsum(shingles_D)]).astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes_S, ends, permutations, seed)
    return np.array(matrix.to_rows(), np.uint32).reshape(len(shingles_D), permutations)


def _sign_long(hashes_W: Hashes, length: int, permutations: int, seed: int) -> Signatures:
    """Signature [P] of one document, in parts: the least values of a set are the least of those of its subsets."""
    starts = range(0, max(len(hashes_W) - length + 1, 1), PART_WORDS)
    parts = (hashes_W[start : start + PART_WORDS + length - 1] for start in starts)
    signed = [_sign(Words(part_W, np.array([len(part_W)])), length, permutations, seed) for part_W in parts]
    return np.asarray(np.concatenate(signed).min(axis=0))


def signature_version() -> int:
    """Release of rensa's algorithm; signatures of different ones cannot be compared."""
    from rensa import RMinHash

    return int(RMinHash.ALGORITHM_VERSION)


def bands(permutations: int, jaccard: float) -> tuple[int, int]:
    """Number of bands and values in each: the longest bands that miss at most `MISSED` of pairs at `jaccard`."""
    for rows in range(permutations, 1, -1):
        count = permutations // rows
        if (1 - jaccard**rows) ** count <= MISSED:
            return count, rows
    return permutations, 1


def first_equals(digests_D: npt.NDArray[Any]) -> Counts:
    """For each document the number of the first one with its digest; its own where it is the first.

    Args:
        digests_D: Two 64-bit halves each, as fields or columns.
    """
    order = np.lexsort((np.arange(len(digests_D)), digests_D[:, 1], digests_D[:, 0]))
    ordered = digests_D[order]
    new = np.ones(len(order), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    firsts = np.empty(len(order), np.int64)
    firsts[order] = order[np.flatnonzero(new)][np.cumsum(new) - 1]
    return firsts


def near_duplicates(signatures_DP: Signatures, jaccard: float) -> dict[int, tuple[int, float]]:
    """Which documents to leave out, each with the earlier, kept one that it is like, and how like.

    Memory beside the signatures: 4 bytes for each band of a document that shares one, and a list entry of 8
    for each such band of a kept one.

    Args:
        signatures_DP: In the order in which documents take precedence; may lie in a file.
        jaccard: Least estimated similarity of a duplicate.
    """
    buckets_DB, shared = _buckets(signatures_DP, jaccard)
    kept: dict[int, list[int]] = {}
    found: dict[int, tuple[int, float]] = {}
    for number, row_B in zip(shared, buckets_DB, strict=True):
        mine = row_B[row_B >= 0].tolist()
        like = sorted({other for bucket in mine for other in kept.get(bucket, ())})
        if like:
            agreement = (signatures_DP[like] == signatures_DP[number]).mean(axis=1)
            first = int(np.argmax(agreement >= jaccard))
            if agreement[first] >= jaccard:
                found[int(number)] = like[first], float(agreement[first])
                continue
        for bucket in mine:
            kept.setdefault(bucket, []).append(int(number))
    return found


def _buckets(signatures_DP: Signatures, jaccard: float) -> tuple[npt.NDArray[np.int32], Counts]:
    """Bucket of each band, -1 where a document is alone in it; and the documents that are not alone everywhere."""
    documents, permutations = signatures_DP.shape
    count, rows = bands(permutations, jaccard)
    buckets_BD = np.full((count, documents), -1, np.int32)
    used = 0
    for band in range(count):
        keys_D = _band_keys(signatures_DP[:, band * rows : (band + 1) * rows])
        order = np.argsort(keys_D, kind="stable")
        new = np.ones(documents, bool)
        new[1:] = keys_D[order][1:] != keys_D[order][:-1]
        groups = np.cumsum(new) - 1
        sizes = np.bincount(groups)
        numbers = np.where(sizes > 1, used + np.cumsum(sizes > 1) - 1, -1)
        buckets_BD[band, order] = numbers[groups]
        used += int(np.count_nonzero(sizes > 1))
    empty = signatures_DP[:, 0] == EMPTY  # without a word a document is like nothing
    shared = np.flatnonzero((buckets_BD >= 0).any(axis=0) & ~empty)
    return np.ascontiguousarray(buckets_BD[:, shared].T), shared


def _band_keys(values_DR: Signatures) -> Hashes:
    """One 64-bit key per row; unequal rows with equal keys are told apart later by the whole signature."""
    keys_D = np.zeros(len(values_DR), np.uint64)
    for column in range(values_DR.shape[1]):
        keys_D = mix(keys_D ^ values_DR[:, column])
    return keys_D
