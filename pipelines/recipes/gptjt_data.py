"""The data that GPT-JT was made from: the Pile, P3, Natural-Instructions and chain-of-thought.

Its second stage drew 55 % of its tokens from the Pile, 20 % from P3, 20 % from Natural-Instructions without the
tasks that are kept for testing, and 5 % from MMLU-CoT. Set `corpus.sources.NAME.uri` to where each lies.
Source: the model card of GPT-JT and its training repository.
"""

from headrace.data.corpus import CorpusConfig
from headrace.data.loader import LoaderConfig, SourceConfig
from headrace.data.source_files import SourceFiles
from headrace.data.tokenizer import TokenizerConfig
from headrace.models.gptj import GPTJConfig
from headrace.training import optimizer, schedule
from headrace.training.config import TrainConfig
from pipelines.recipe import Recipe
from pipelines.recipes.gptj_6b import EVALUATION, HELDOUT

TASKS = "corpora/natural-instructions"
CORPUS = CorpusConfig(
    sources={
        "pile": SourceFiles(uri="corpora/pile/train", format="pile"),
        "p3": SourceFiles(uri="corpora/p3", format="p3"),
        "natural_instructions": SourceFiles(
            uri=f"{TASKS}/tasks", format="natural_instructions", except_tasks=f"{TASKS}/splits/default/test_tasks.txt"
        ),
        "cot": SourceFiles(uri="corpora/mmlu-cot", format="mmlu_cot"),
    },
    files=HELDOUT,
)
MIXTURE = {
    "pile": SourceConfig(weight=0.55, objective="ul2"),
    "p3": SourceConfig(weight=0.20, objective="instruction", cut="end"),
    "natural_instructions": SourceConfig(weight=0.20, objective="instruction", cut="end"),
    "cot": SourceConfig(weight=0.05, objective="instruction", cut="end"),
}


def stage(steps: int, sources: dict[str, SourceConfig]) -> TrainConfig:
    """One stage of GPT-JT's training, the prompt seen whole."""
    return TrainConfig(
        model=GPTJConfig(),
        data=LoaderConfig(context_tokens=2048, rows=64, sources=sources),
        mask="prefix",
        steps=steps,
        microbatch_rows=1,
        optimizer=optimizer.gptjt(),
        schedule=schedule.gptjt(steps),
        z_loss=0.0,
        precision="bf16",
        checkpoint_every_steps=100,
    )


def gptjt_data() -> Recipe:
    """For the `prepare` chain: filtered shards of the four, and a report that draws the mixture."""
    return Recipe(
        model="gptjt-6b",
        corpus=CORPUS,
        tokenizer=TokenizerConfig(kind="gpt2"),
        instruct=stage(7_000, MIXTURE),
        evaluation=EVALUATION,
    )
