"""The sides of text to shards, each run in a process of its own: ours, bare gigatoken, Hugging Face.

Imports and, where a side has one, its tokenizer's loading are left out of `seconds` on all sides;
`setup_seconds` says what the loading took. `ids` is the SHA-256 of all ids, each document's closed by
end-of-text, as 16-bit integers.
"""

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

BLOCK_TOKENS = 2048
BATCH_CHARACTERS = 3 * 2**23
"""Where bare gigatoken was fastest, of 1 M to 32 M characters."""


def ours(corpus: str, tokenizer: str, output: str, text_bytes: int = 0) -> dict[str, Any]:
    """`write_shards` from the compressed file to the sealed artifact, of the first `text_bytes` or of all."""
    import awkward  # noqa: F401
    import gigatoken  # noqa: F401
    import orjson  # noqa: F401
    import zstandard  # noqa: F401

    from headrace.data import shards
    from headrace.data.documents import read_documents

    # Publishing would delete what an earlier run left there, gigabytes of it, and take its time for ours.
    shutil.rmtree(output, ignore_errors=True)
    os.sync()
    load, setup = shards.load_tokenizer, []

    def timed_load(uri: Any) -> Any:
        start = time.perf_counter()
        loaded = load(uri)
        assert loaded.fast
        setup.append(time.perf_counter() - start)
        return loaded

    shards.load_tokenizer = timed_load
    documents = read_documents(corpus)
    start, used = time.perf_counter(), time.process_time()
    shards.write_shards(_first(documents, text_bytes), tokenizer, output, shards.ShardConfig())
    seconds, used = time.perf_counter() - start, time.process_time() - used
    made = shards.open_shards(output, verify=False)
    digest = hashlib.sha256()
    for file in made.layout.files:
        with (made.path / f"{file.name}.tokens").open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    return {
        "seconds": seconds - sum(setup),
        "setup_seconds": sum(setup),
        "cpu_seconds": used,
        "tokens": made.tokens,
        "ids": digest.hexdigest(),
    }


def bare(corpus: str, tokenizer: str, batch_characters: int) -> dict[str, Any]:
    """gigatoken's `encode_batch` on texts that lie in memory, nothing read, kept or written."""
    import awkward  # noqa: F401
    import numpy as np

    from headrace.data.tokenizer import END_OF_TEXT, load_tokenizer

    texts, loaded = _texts(corpus), load_tokenizer(tokenizer)
    assert loaded.fast
    batches = list(_batches(texts, batch_characters))
    start, used = time.perf_counter(), time.process_time()
    for batch in batches:
        loaded._fast.encode_batch(batch)
    seconds, used = time.perf_counter() - start, time.process_time() - used
    digest, tokens = hashlib.sha256(), 0
    for batch in batches:
        content = loaded._fast.encode_batch([piece for text in batch for piece in (text, END_OF_TEXT)]).layout.content
        ids = np.asarray(content.data).astype("<u2")
        digest.update(ids.tobytes())
        tokens += len(ids)
    return {"seconds": seconds, "cpu_seconds": used, "tokens": tokens, "ids": digest.hexdigest()}


def reading(corpus: str) -> dict[str, Any]:
    """What our side does before it encodes, alone: unpacking, lines, JSON, documents, batches."""
    import orjson  # noqa: F401
    import zstandard  # noqa: F401

    from headrace.data.documents import read_documents
    from headrace.data.encoding import cut_batches
    from headrace.data.shards import ShardConfig

    config = ShardConfig()
    start, used = time.perf_counter(), time.process_time()
    for _ in cut_batches(read_documents(corpus), config.documents_per_batch, config.characters_per_batch):
        pass
    return {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - used}


def writing(corpus: str, tokenizer: str, output: str) -> dict[str, Any]:
    """What our side does after it has encoded, alone: narrowing, hashing, files and their index."""
    from headrace.data.documents import read_documents
    from headrace.data.encoding import Encoder, cut_batches
    from headrace.data.shard_files import Layout
    from headrace.data.shard_writer import ShardWriter
    from headrace.data.shards import ShardConfig, load_tokenizer

    shutil.rmtree(output, ignore_errors=True)
    Path(output).mkdir(parents=True)
    config, loaded = ShardConfig(), load_tokenizer(tokenizer)
    batches = cut_batches(read_documents(corpus), config.documents_per_batch, config.characters_per_batch)
    encoded = list(map(Encoder(loaded), batches))
    layout = Layout(vocabulary=loaded.vocabulary, eos_id=loaded.eos_id, files=[])
    start, used = time.perf_counter(), time.process_time()
    with contextlib.closing(ShardWriter(Path(output), layout, config.tokens_per_file)) as writer:
        for batch in encoded:
            writer.append(batch)
    return {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - used}


def hugging_face(corpus: str, tokenizer: str, folder: str, processes: int) -> dict[str, Any]:
    """`load_dataset`, `map` with a fast tokenizer, and `map` into blocks, as language-model examples do."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": folder, "TOKENIZERS_PARALLELISM": "false"}
    import datasets
    import numpy as np
    from transformers import PreTrainedTokenizerFast

    datasets.disable_progress_bars()
    fast = PreTrainedTokenizerFast(tokenizer_file=f"{tokenizer}/tokenizer.json", eos_token="<|endoftext|>")

    def encode(examples: dict[str, Any]) -> dict[str, Any]:
        return {"input_ids": [[*ids, fast.eos_token_id] for ids in fast(examples["text"])["input_ids"]]}

    def group(examples: dict[str, Any]) -> dict[str, Any]:
        ids = [token for one in examples["input_ids"] for token in one]
        whole = len(ids) // BLOCK_TOKENS * BLOCK_TOKENS
        blocks = [ids[at : at + BLOCK_TOKENS] for at in range(0, whole, BLOCK_TOKENS)]
        return {"input_ids": blocks, "labels": [list(block) for block in blocks]}

    start = time.perf_counter()
    raw = datasets.load_dataset("json", data_files=corpus, split="train", cache_dir=folder)
    encoded = raw.map(encode, batched=True, num_proc=processes, remove_columns=raw.column_names)
    encoded.map(group, batched=True, num_proc=processes)
    seconds = time.perf_counter() - start
    digest, tokens = hashlib.sha256(), 0
    for batch in encoded.iter(1000):
        ids = np.concatenate([np.array(one, "<u2") for one in batch["input_ids"]])
        digest.update(ids.tobytes())
        tokens += len(ids)
    return {"seconds": seconds, "tokens": tokens, "ids": digest.hexdigest()}


def _texts(corpus: str) -> list[str]:
    from headrace.data.documents import read_documents

    return [document.text for document in read_documents(corpus)]


def _batches(texts: list[str], characters: int) -> Iterator[list[str]]:
    """Consecutive texts of about so many characters; all at once where that is 0."""
    batch, length = [], 0
    for text in texts:
        batch.append(text)
        length += len(text)
        if characters and length >= characters:
            yield batch
            batch, length = [], 0
    if batch:
        yield batch


def _first(documents: Iterable[Any], text_bytes: int) -> Iterator[Any]:
    """Documents up to so many characters of text; all where that is 0."""
    left = text_bytes or float("inf")
    for document in documents:
        yield document
        left -= len(document.text)
        if left <= 0:
            return
