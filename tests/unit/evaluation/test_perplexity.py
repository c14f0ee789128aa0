"""Held-out perplexity against transformers in float64 and against plain Python."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from headrace.data.tokenizer import TextTokenizer
from headrace.errors import DataError
from headrace.evaluation.lm import HeadraceLM
from headrace.evaluation.perplexity import run_perplexity
from headrace.models.gptj import GPTJ

TEXTS = [
    "The river carries water.",
    "Prices in Zürich are given in the franc \U0001f600, and " * 12,  # longer than the context
    "A man",
]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("text") / "heldout.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return str(path)


@torch.no_grad()
def nats_by_transformers(theirs: Any, ids: list[int], context: int) -> float:
    """Token by token in float64, each with as much before it as the windows give it."""
    network, total = theirs.model.double(), 0.0
    for n in range(1, len(ids)):
        start = 0 if n <= context else min((n - 1) // context * context + context, len(ids) - 1) - context
        logits_V = network(torch.tensor([ids[start:n]])).logits[0, -1]
        total += float(logits_V.log_softmax(0)[ids[n]])
    network.float()
    return total


@pytest.mark.parametrize("mask", ["causal", "prefix"])
def test_perplexity_is_that_of_transformers_in_float64_under_either_mask(
    model: GPTJ, tokenizer: TextTokenizer, theirs: Any, file: str, mask: Any
) -> None:
    measured = run_perplexity(HeadraceLM(model, tokenizer, mask), "prose", [file])["prose"]
    rows = [[tokenizer.eos_id, *tokenizer.encode(text)] for text in TEXTS]
    assert max(map(len, rows)) > 2 * model.config.context_tokens
    nats = [nats_by_transformers(theirs, ids, model.config.context_tokens) for ids in rows]
    tokens = [len(ids) - 1 for ids in rows]
    assert [example.loglikelihoods[0] for example in measured.examples] == pytest.approx(nats, rel=1e-5)
    assert measured.metrics["perplexity"].value == pytest.approx(math.exp(-sum(nats) / sum(tokens)), rel=1e-5)
    size = sum(len(text.encode()) for text in TEXTS)
    assert measured.metrics["bits_per_byte"].value == pytest.approx(-sum(nats) / math.log(2) / size, rel=1e-5)
    rate = sum(nats) / sum(tokens)
    spread = sum((a - rate * b) ** 2 for a, b in zip(nats, tokens, strict=True)) * 3 / 2
    expected = measured.metrics["perplexity"].value * math.sqrt(spread) / sum(tokens)
    assert measured.metrics["perplexity"].stderr == pytest.approx(expected, rel=1e-3)


def test_an_instruction_is_read_as_prompt_and_target(model: GPTJ, tokenizer: TextTokenizer, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    whole.write_text((json.dumps({"text": "The river carries"}) + "\n") * 2)
    parts.write_text((json.dumps({"prompt": "The river", "target": " carries"}) + "\n") * 2)
    lm = HeadraceLM(model, tokenizer)
    assert run_perplexity(lm, "a", [str(whole)])["a"].metrics == run_perplexity(lm, "a", [str(parts)])["a"].metrics


def test_several_files_are_one_set_of_documents(model: GPTJ, tokenizer: TextTokenizer, file: str) -> None:
    twice = run_perplexity(HeadraceLM(model, tokenizer), "prose", [file, file])["prose"]
    once = run_perplexity(HeadraceLM(model, tokenizer), "prose", [file])["prose"]
    assert twice.metrics["perplexity"].value == pytest.approx(once.metrics["perplexity"].value)
    assert twice.metrics["perplexity"].n == 6
    assert len({example.id for example in twice.examples}) == 6


def test_one_document_is_no_evidence(model: GPTJ, tokenizer: TextTokenizer, tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text('{"text": "The river"}\n')
    with pytest.raises(DataError, match=r"prose has 1 document\(s\)"):
        run_perplexity(HeadraceLM(model, tokenizer), "prose", [str(tmp_path / "one.jsonl")])


def test_each_subset_of_the_pile_has_a_perplexity_of_its_own(
    model: GPTJ, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    subsets = {"Wikipedia (en)": TEXTS[:2], "Books3": [*TEXTS[1:], "The wheel"], "Enron": ["A mail"]}
    lines = [{"text": text, "meta": {"pile_set_name": name}} for name, texts in subsets.items() for text in texts]
    (tmp_path / "pile.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    lm = HeadraceLM(model, tokenizer)
    measured = run_perplexity(lm, "pile", [str(tmp_path / "pile.jsonl")])
    assert [(name, len(part.examples)) for name, part in measured.items()] == [
        ("pile", 6), ("pile.Books3", 3), ("pile.Wikipedia_en", 2)
    ]  # fmt: skip
    (tmp_path / "alone.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in subsets["Books3"]))
    alone = run_perplexity(lm, "alone", [str(tmp_path / "alone.jsonl")])
    assert list(alone) == ["alone"]
    for metric, value in alone["alone"].metrics.items():
        assert measured["pile.Books3"].metrics[metric].value == pytest.approx(value.value, rel=1e-5)
