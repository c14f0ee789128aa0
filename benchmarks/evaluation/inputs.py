"""A random model in both formats, and examples of the tasks: real ones where they are at hand."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "eval"
FILES = {
    "hellaswag": REAL / "hellaswag" / "hellaswag_val.jsonl",
    "lambada_openai": REAL / "lambada" / "lambada_openai_llmfoundry.jsonl",
}
WORDS = ("the", "a", "river", "water", "wheel", "mill", "turns", "carries", "stone", "man", "roof", "cage", "then")


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """A model small enough for a CPU."""

    n_layer: int
    d_model: int
    vocabulary: int | None
    """Of a tokenizer trained on the examples; None takes GPT-2's."""


SHAPES = {
    # Logits of all positions are more than half of the work here, and 3 % of it in GPT-J 6B.
    "GPT-2's vocabulary": Shape(n_layer=8, d_model=384, vocabulary=None),
    # Logits have the share of the work that they have in GPT-J 6B.
    "a vocabulary of 2,048": Shape(n_layer=8, d_model=512, vocabulary=2048),
}


def write_examples(kind: str, folder: Path, count: int) -> bool:
    """Write a task's first examples as `KIND.jsonl`; whether they are real ones."""
    real = FILES[kind].is_file()
    rows = read_rows(FILES[kind]) if real else seeded(kind, count)
    (folder / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:count]))
    return real


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The objects of a `.jsonl` file, one a line."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def seeded(kind: str, count: int) -> list[dict[str, Any]]:
    """Sentences with the lengths of the real examples."""
    draw = random.Random(0)

    def text(words: int) -> str:
        return " ".join(draw.choices(WORDS, k=words))

    def rows() -> Iterator[dict[str, Any]]:
        for _ in range(count):
            if kind == "lambada_openai":
                yield {"text": text(draw.randint(60, 90))}
            else:
                endings = [text(draw.randint(8, 30)) for _ in range(4)]
                context = {"activity_label": "Milling", "ctx_a": text(draw.randint(20, 90)), "ctx_b": ""}
                yield {**context, "endings": endings, "label": draw.randrange(4)}

    return list(rows())


def write_model(shape: Shape, folder: Path, texts: Path) -> int:
    """Draw a model and save it as a sealed checkpoint and as transformers reads it; its parameters are counted."""
    import torch

    from headrace import storage
    from headrace.artifacts import MODEL_FILE, TOKENIZER_FILE, Checkpoint
    from headrace.config import encode
    from headrace.data.tokenizer import TokenizerConfig, load_tokenizer, train_tokenizer
    from headrace.models.export import save_hf
    from headrace.models.gptj import GPTJ, GPTJConfig
    from headrace.models.pretrained import save_weights

    made_by = TokenizerConfig(kind="gpt2") if shape.vocabulary is None else TokenizerConfig(vocabulary=shape.vocabulary)
    train_tokenizer([str(texts)] if shape.vocabulary else [], folder / "tokenizer", made_by)
    tokenizer = load_tokenizer(folder / "tokenizer")
    torch.manual_seed(0)
    width = {"d_model": shape.d_model, "d_ff": 4 * shape.d_model, "n_head": shape.d_model // 64, "rotary_dim": 32}
    rows = -(-tokenizer.vocabulary // 128) * 128
    model = GPTJ(GPTJConfig(vocab_size=rows, n_layer=shape.n_layer, context_tokens=1024, **width)).eval()
    save_hf(model, folder / "hf", folder / "tokenizer" / TOKENIZER_FILE)
    facts = Checkpoint(
        step=0, tokens_seen=0, labels_seen=0, model=encode(model.config), tokenizer=tokenizer.fingerprint,
        mask="causal", config={}, loss=None,
    )  # fmt: skip
    with storage.writing(folder / "checkpoint") as tree:
        save_weights(model, tree.path / MODEL_FILE)
        tokenizer.save(tree.path / TOKENIZER_FILE)
        tree.commit(facts)
    return sum(weight.numel() for weight in model.parameters())


def write_texts(folder: Path) -> Path:
    """All that the tasks say, as documents to train a tokenizer on."""
    lines = (line for kind in FILES for line in read_rows(folder / f"{kind}.jsonl"))
    texts = (" ".join(_strings(line)) for line in lines)
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder / "texts.jsonl"


def _strings(row: dict[str, Any]) -> Iterator[str]:
    for value in row.values():
        yield from (item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str))
