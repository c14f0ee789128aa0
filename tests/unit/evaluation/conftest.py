"""A random model and a tokenizer trained on a few sentences: small, but everything real."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from headrace import storage
from headrace.artifacts import MODEL_FILE, TOKENIZER_FILE, Checkpoint, EvalReport
from headrace.config import encode
from headrace.data.tokenizer import TextTokenizer, TokenizerConfig, load_tokenizer, train_tokenizer
from headrace.evaluation import estimate
from headrace.evaluation.config import EvalConfig, TaskConfig
from headrace.evaluation.details import write_details
from headrace.evaluation.scores import Example, columns, score_file, write_examples
from headrace.models.export import save_hf
from headrace.models.gptj import GPTJ, GPTJConfig
from headrace.models.pretrained import save_weights
from headrace.storage import Stored
from tests.evidence import FINGERPRINT, Case

SENTENCES = [
    "The river carries water to the wheel, and the wheel turns the millstone.",
    "A man is sitting on a roof. He starts pulling up roofing on a roof.",
    "Return the currency of the given country. Input: Switzerland Output: Swiss Franc",
    "Ian volunteered to eat Dennis's menudo because he enjoyed eating intestine.",
    "How do I ready a guinea pig cage? Provide a few inches of bedding made of ripped paper.",
    "Prices in Norway are given in the krone; naïve café owners in Zürich say so: \U0001f600.",
]


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    corpus = folder / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in SENTENCES * 3))
    train_tokenizer([str(corpus)], folder / "made", TokenizerConfig(vocabulary=380))
    return folder / "made" / "tokenizer.json"


@pytest.fixture(scope="session")
def tokenizer(tokenizer_file: Path) -> TextTokenizer:
    return load_tokenizer(tokenizer_file)


@pytest.fixture(scope="session")
def model() -> GPTJ:
    """Weights large enough that what a token sees changes what it predicts."""
    torch.manual_seed(0)
    config = GPTJConfig(vocab_size=400, n_layer=2, d_model=48, n_head=3, d_ff=96, rotary_dim=8, context_tokens=64)
    model = GPTJ(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.copy_(1.5 * torch.randn_like(weight) / math.sqrt(weight.shape[-1]))
    return model


@pytest.fixture(scope="session")
def theirs(tmp_path_factory: pytest.TempPathFactory, model: GPTJ, tokenizer_file: Path) -> Any:
    """lm-evaluation-harness's own transformers model on the weights of `model`."""
    pytest.importorskip("accelerate", reason="lm_eval's transformers model imports it")
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("hf") / "model"
    save_hf(model, folder, tokenizer_file)
    fast = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_file), eos_token="<|endoftext|>")
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    loaded.generation_config.max_new_tokens = None  # or it would come before what a task asks for
    return HFLM(pretrained=loaded, tokenizer=fast, batch_size=4, max_length=model.config.context_tokens, device="cpu")


@pytest.fixture(scope="session")
def seal(model: GPTJ, tokenizer: TextTokenizer) -> Callable[..., Path]:
    """Seal `model` as a checkpoint: `seal(folder, mask)`; `step` tells one from another."""

    def sealed(folder: Path, mask: Any = "prefix", step: int = 1) -> Path:
        with storage.writing(folder) as tree:
            save_weights(model, tree.path / MODEL_FILE)
            tokenizer.save(tree.path / TOKENIZER_FILE)
            facts = Checkpoint(
                step=step,
                tokens_seen=0,
                labels_seen=0,
                model=encode(model.config),
                tokenizer=tokenizer.fingerprint,
                mask=mask,
                config={},
                loss=0.0,
            )
            tree.commit(facts)
        return folder

    return sealed


@pytest.fixture
def report(tmp_path: Path) -> Callable[..., Stored[EvalReport]]:
    """Seal a report of given scores: `report("candidate", [1, 0, 1], facts=[...])`, by task."""

    def sealed(checkpoint: str, *, data: str = "data", **tasks: Sequence[float]) -> Stored[EvalReport]:
        with storage.writing(tmp_path / f"{checkpoint}-{data}") as tree:
            metrics = {}
            for task, scores in tasks.items():
                examples = [Example(id=f"{n}-x", scores={"exact_match": float(s)}) for n, s in enumerate(scores)]
                write_examples(score_file(tree.path, task), examples)
                metrics[f"{task}/exact_match"] = estimate.mean(*columns(examples, "exact_match"), task)
            asked = EvalConfig(tasks={task: TaskConfig(kind="exact_match", data=task) for task in tasks})
            write_details(tree.path, {"config": encode(asked), "files": {task: [FINGERPRINT] for task in tasks}})
            tree.commit(EvalReport(checkpoint=checkpoint, mask="prefix", metrics=metrics, data=data))
        return storage.read(tmp_path / f"{checkpoint}-{data}", EvalReport)

    return sealed


@pytest.fixture
def case(tmp_path: Path, report: Callable[..., Stored[EvalReport]]) -> Case:
    """A candidate with all the evidence that a policy can ask for."""
    return Case(tmp_path, report)
