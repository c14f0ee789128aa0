"""How fast batches are made, beside a plain collator and beside a training step of the demo model.

Documents are drawn at random with the lengths of real ones; both sides read the same, on one core, in turns.
"""

import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.data.plain_denoise import PlainCollator
from benchmarks.options import Options
from benchmarks.tables import Table
from headrace.data.denoise import UL2R
from headrace.data.documents import read_documents
from headrace.data.loader import BatchStream, LoaderConfig, SourceConfig
from headrace.data.shards import OpenShards, ShardConfig, open_shards, write_shards
from headrace.data.tokenizer import TokenizerConfig, load_tokenizer, train_tokenizer
from headrace.data.vocabulary import SpecialTokens, padded_size

SECONDS = 1.0
STEPS = 5
MIXTURE = {
    "pile": SourceConfig(weight=0.55, objective="ul2"),
    "p3": SourceConfig(weight=0.2, objective="instruction"),
    "natural_instructions": SourceConfig(weight=0.2, objective="instruction"),
    "cot": SourceConfig(weight=0.05, objective="instruction"),
}


@dataclass(frozen=True)
class Case:
    """One shape of batch."""

    context_tokens: int
    rows: int


DEMO = Case(256, 8)


def cases() -> list[Case]:
    """GPT-JT's global batch, and the demo's."""
    return [Case(2048, 64), DEMO]


@dataclass(frozen=True)
class Inputs:
    """Shards of text and of instructions, and what reads them."""

    shards: dict[str, OpenShards]
    special: SpecialTokens
    eos_id: int

    def stream(self, case: Case, sources: dict[str, SourceConfig]) -> BatchStream:
        """Batches of `case.rows` packed rows of `case.context_tokens`.

        Args:
            case: Their shape.
            sources: Shares and objectives; `pile` alone reads the text, a mixture reads all.
        """
        config = LoaderConfig(context_tokens=case.context_tokens, rows=case.rows, sources=sources)
        used = {"text": self.shards["text"]} if set(sources) == {"pile"} else self.shards
        return BatchStream(used, config, self.special, self.eos_id)


def make_inputs(folder: Path) -> Inputs:
    """Random words; document lengths are lognormal, prompts long and answers short."""
    random, words = np.random.default_rng(0), [f"w{n}" for n in range(400)]

    def text(length: float) -> str:
        return " ".join(words[n] for n in random.integers(0, 400, max(1, int(length))))

    lines: dict[str, list[dict[str, str]]] = {"text": [], "instructions": []}
    for length in np.clip(random.lognormal(5.8, 1.2, 3000), 2, 20_000):
        lines["text"].append({"text": text(length), "source": "pile"})
    for number, (prompt, target) in enumerate(
        zip(random.lognormal(4.3, 0.9, 12_000), random.lognormal(1.8, 1, 12_000), strict=True)
    ):
        source = ("p3", "natural_instructions", "cot")[number % 3]
        lines["instructions"].append(
            {"prompt": text(min(prompt, 900)), "target": text(min(target, 300)), "source": source}
        )
    for name, documents in lines.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in documents))
    train_tokenizer([str(folder / "text.jsonl")], folder / "tokenizer", TokenizerConfig(vocabulary=1000))
    tokenizer = load_tokenizer(folder / "tokenizer")
    shards = {}
    for name in lines:
        write_shards(read_documents(str(folder / f"{name}.jsonl")), folder / "tokenizer", folder / name, ShardConfig())
        shards[name] = open_shards(folder / name)
    return Inputs(shards, SpecialTokens(tokenizer.vocabulary, padded_size(tokenizer.vocabulary)), tokenizer.eos_id)


def plain_batches(inputs: Inputs, case: Case) -> Iterator[int]:
    """Positions filled by one batch after another of the plain collator, over the text alone."""
    denoisers = [(d.share, inputs.special.mode(d.mode), d.mean_span_tokens, d.rate) for d in UL2R]
    collator = PlainCollator(denoisers, inputs.special.sentinels, inputs.eos_id, case.context_tokens)
    text = inputs.shards["text"]
    while True:
        documents = (text.document(n).tolist()[:-1] for n in range(len(text)))
        for _, _, segments, _ in collator.batches(documents, case.rows):
            yield int(np.count_nonzero(segments))


def speed(take: Callable[[], int], seconds: float = SECONDS) -> float:
    """Positions filled per second of one core's time."""
    started, filled = time.process_time(), 0
    while (spent := time.process_time() - started) < seconds:
        filled += take()
    return filled / spent


def measure(inputs: Inputs, case: Case, rounds: int) -> dict[str, float]:
    """Medians over rounds in which the sides take turns."""
    mixed, denoised = inputs.stream(case, MIXTURE), inputs.stream(case, {"pile": SourceConfig(objective="ul2")})
    plain = plain_batches(inputs, case)
    found: dict[str, list[float]] = {"mixture": [], "ul2": [], "plain": []}
    for _ in range(rounds):
        found["mixture"].append(speed(lambda: mixed.next().filled()))
        found["ul2"].append(speed(lambda: denoised.next().filled()))
        found["plain"].append(speed(lambda: next(plain)))
    batches = [mixed.next() for _ in range(200)]
    full = sum(batch.filled() for batch in batches) / sum(batch.tokens_BT.size for batch in batches)
    return {name: statistics.median(values) for name, values in found.items()} | {"filled": full}


def step_seconds(inputs: Inputs, case: Case) -> float:
    """One training step of the demo's model on one core, on batches of the mixture; the median of a few."""
    import torch

    from headrace.models.gptj import GPTJ
    from headrace.training import optimizer
    from headrace.training.config import TrainConfig
    from headrace.training.step import take_step
    from pipelines.recipes.demo import MODEL

    torch.set_num_threads(1)
    model = GPTJ(dataclasses.replace(MODEL, vocab_size=inputs.special.padded_vocabulary))
    data = LoaderConfig(context_tokens=case.context_tokens, rows=case.rows, sources=MIXTURE)
    config = TrainConfig(model=model.config, data=data, mask="prefix", steps=STEPS, microbatch_rows=case.rows)
    weights, stream = optimizer.build(model, config.optimizer), inputs.stream(case, MIXTURE)
    seconds = []
    for step in range(1, STEPS + 1):
        batch = stream.next()
        started = time.process_time()
        take_step(model, weights, batch, config, step)
        seconds.append(time.process_time() - started)
    return statistics.median(seconds)


def run(options: Options) -> Iterator[Table]:
    """Measure every case."""
    rows, numbers, notes = [], {}, []
    with tempfile.TemporaryDirectory(prefix="headrace-benchmark-") as folder:
        inputs = make_inputs(Path(folder))
        for case in cases():
            result = measure(inputs, case, options.rounds)
            numbers[f"{case.rows}x{case.context_tokens}"] = result
            rows.append(
                {
                    "batch": f"{case.rows} × {case.context_tokens}",
                    "mixture, M tokens/s": f"{result['mixture'] / 1e6:.1f}",
                    "UL2 alone": f"{result['ul2'] / 1e6:.1f}",
                    "plain collator": f"{result['plain'] / 1e6:.2f}",
                    "ours / plain": f"{result['ul2'] / result['plain']:.1f}",
                    "positions filled": f"{result['filled']:.2%}",
                }
            )
            if case == DEMO:
                share = case.context_tokens * case.rows * result["filled"] / result["mixture"]
                result["share_of_step"] = share / step_seconds(inputs, case)
                notes.append(f"A batch takes {result['share_of_step']:.2%} of a step of the demo model (asked: 3 %).")
    notes.append("Asked: 1 M tokens/s with mixture, packing and UL2, and ten times the plain collator.")
    yield Table(title="Batches, on one core", rows=rows, notes=notes, numbers=numbers)
