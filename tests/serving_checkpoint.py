"""A tiny sealed checkpoint for tests of serving: random weights, lively enough to disagree with one another."""

from pathlib import Path

import torch

from headrace import storage
from headrace.artifacts import MODEL_FILE, TOKENIZER_FILE, Checkpoint, Manifest, MaskContract
from headrace.config import encode
from headrace.data.tokenizer import TextTokenizer
from headrace.models.gptj import GPTJ, GPTJConfig
from headrace.models.pretrained import save_weights

TEXT = "Return the currency of the given country. Input: Switzerland Output: Swiss Franc. The river carries water."
CONTEXT_TOKENS = 96


def tiny_tokenizer() -> TextTokenizer:
    """A byte-level BPE of 320 ids; whatever is not in `TEXT` takes several tokens a character or word."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([TEXT] * 10, trainer)
    return TextTokenizer(backend.to_str())


def tiny_model(seed: int = 0) -> GPTJ:
    """Two layers whose weights are large, so that a change of mask or prompt changes the likeliest token."""
    torch.manual_seed(seed)
    shape = GPTJConfig(
        vocab_size=352, n_layer=2, d_model=64, n_head=4, d_ff=128, rotary_dim=8, context_tokens=CONTEXT_TOKENS
    )
    model = GPTJ(shape)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.normal_(std=0.4)
        model.head.bias[320:] = -1e4  # rows that stand for no text
        model.head.bias[0] = 4.0  # end of text, so that some completions end before their limit
    return model.eval()


def write_checkpoint(path: Path, mask: MaskContract, seed: int = 0) -> Manifest:
    """Seal the model and the tokenizer as a `Checkpoint`."""
    model, tokenizer = tiny_model(seed), tiny_tokenizer()
    with storage.writing(path) as tree:
        save_weights(model, tree.path / MODEL_FILE)
        tokenizer.save(tree.path / TOKENIZER_FILE)
        facts = Checkpoint(
            step=1,
            tokens_seen=1,
            labels_seen=1,
            model=encode(model.config),
            tokenizer=tokenizer.fingerprint,
            mask=mask,
            config={},
            loss=1.0,
        )
        return tree.commit(facts)
