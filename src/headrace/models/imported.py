"""Checkpoints that were trained elsewhere: a Hugging Face directory sealed as one of ours."""

import shutil
from pathlib import Path

from headrace import storage
from headrace.artifacts import MODEL_FILE, TOKENIZER_FILE, Checkpoint, Manifest, MaskContract
from headrace.config import encode
from headrace.errors import MismatchError
from headrace.models.convert import load_hf, mask_hf
from headrace.models.pretrained import save_weights


def import_checkpoint(directory: str | Path, output_uri: str | Path, mask: MaskContract | None = None) -> Manifest:
    """Seal a GPT-J that transformers saved as a `Checkpoint` that can be evaluated, finetuned and served.

    Args:
        directory: Holds `config.json`, safetensors and `tokenizer.json`.
        output_uri: Where the checkpoint goes, local or `gs://`.
        mask: How the model was trained to see its prompt; found out from the directory where None.

    Raises:
        ConfigError, MismatchError, IntegrityError: As `load_hf`; also where there is no tokenizer.json.
    """
    model = load_hf(directory)
    tokenizer = Path(directory) / TOKENIZER_FILE
    if not tokenizer.is_file():
        raise MismatchError(f"{directory} has no {TOKENIZER_FILE}, and a checkpoint carries its own. Lay it there.")
    with storage.writing(output_uri) as tree:
        save_weights(model, tree.path / MODEL_FILE)
        shutil.copyfile(tokenizer, tree.path / TOKENIZER_FILE)
        facts = Checkpoint(
            step=0,
            tokens_seen=0,
            labels_seen=0,
            model=encode(model.config),
            tokenizer=storage.hash_file(tokenizer),
            mask=mask or mask_hf(directory),
            config={},
            loss=None,
        )
        return tree.commit(facts)
