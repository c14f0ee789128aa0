"""GPT-J 6B as it was published: 402 B tokens of the Pile in 383,500 steps of 512 × 2048.

Source: `6B_roto_256.json` of mesh-transformer-jax, and the model card of GPT-J.
"""

from headrace.data.corpus import CorpusConfig
from headrace.data.loader import LoaderConfig, SourceConfig
from headrace.data.tokenizer import TokenizerConfig
from headrace.evaluation.config import EvalConfig, TaskConfig
from headrace.models.gptj import GPTJConfig
from headrace.training import optimizer, schedule
from headrace.training.config import TrainConfig
from pipelines.recipe import Recipe

HARNESS = ("lambada_openai", "winogrande", "hellaswag", "piqa")


HELDOUT = {
    "heldout_text": "corpora/pile/val.jsonl.zst",
    **{name: f"corpora/harness/{name}.jsonl" for name in HARNESS},
}
EVALUATION = EvalConfig(
    tasks={name: TaskConfig(kind=name, data=name) for name in HARNESS},
    perplexity={"pile": "heldout_text"},
    headline="lambada_openai/acc",
    bos_eos=True,
)
"""The tasks that GPT-J was published with, taken as it took them, and held-out perplexity."""


def gptj_6b() -> Recipe:
    """For the `pretraining` chain; set corpus.files.text to where the Pile lies."""
    return Recipe(
        model="gptj-6b",
        corpus=CorpusConfig(files={"text": "corpora/pile/train", **HELDOUT}),
        tokenizer=TokenizerConfig(kind="gpt2"),
        pretraining=TrainConfig(
            model=GPTJConfig(),
            data=LoaderConfig(context_tokens=2048, rows=512, sources={"text": SourceConfig(objective="causal")}),
            steps=383_500,
            microbatch_rows=8,
            optimizer=optimizer.gptj(),
            schedule=schedule.gptj(),
            z_loss=1e-4,
            precision="bf16",
            checkpoint_every_steps=500,
        ),
        evaluation=EVALUATION,
    )
