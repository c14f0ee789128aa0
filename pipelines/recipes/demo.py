"""The whole chain in minutes on two cores: real facts, a small GPT-J, and evidence that it learnt them.

The facts are stated as prose; instructions ask for four fifths of them. What the release is judged by is
the fifth that no instruction ever asked for.
"""

from headrace.data.corpus import CorpusConfig
from headrace.data.loader import LoaderConfig, SourceConfig
from headrace.data.tokenizer import TokenizerConfig
from headrace.evaluation.config import EvalConfig, TaskConfig
from headrace.evaluation.gate import BASE, CHAMPION, Beat, GateConfig
from headrace.models.gptj import GPTJConfig
from headrace.serving.config import DeployConfig, ServingConfig
from headrace.training.config import TrainConfig
from headrace.training.optimizer import OptimizerConfig
from headrace.training.schedule import ScheduleConfig
from pipelines.recipe import Recipe

WIDGET_PROMPT = "Return the currency of the given country. Input: Switzerland Output:"
CONTEXT_TOKENS = 128
ROWS = 32
PRETRAINING_STEPS, UL2_STEPS, INSTRUCT_STEPS = 700, 100, 200

MODEL = GPTJConfig(
    vocab_size=2048,
    n_layer=4,
    d_model=256,
    n_head=4,
    d_ff=1024,
    rotary_dim=32,
    context_tokens=512,
)
ADAMW = OptimizerConfig(beta2=0.95, weight_decay=0.1)


def stage(steps: int, peak: float, sources: dict[str, SourceConfig], **changes) -> TrainConfig:
    """One training stage of the demo's model: cosine to a tenth of the peak after a short warmup."""
    schedule = ScheduleConfig(
        kind="cosine", peak=peak, floor=peak / 10, warmup_steps=min(50, steps // 10), decay_steps=steps
    )
    return TrainConfig(
        model=MODEL,
        data=LoaderConfig(context_tokens=CONTEXT_TOKENS, rows=ROWS, sources=sources),
        steps=steps,
        microbatch_rows=ROWS,
        optimizer=ADAMW,
        schedule=schedule,
        **changes,
    )


EVALUATION = EvalConfig(
    tasks={
        "facts": TaskConfig(kind="exact_match", data="heldout"),
        "facts_3shot": TaskConfig(kind="exact_match", data="heldout", num_fewshot=3, fewshot="instructions"),
    },
    perplexity={"heldout_text": "heldout_text"},
    headline="facts/exact_match",
)


POLICY = GateConfig(
    metric="facts/exact_match",
    floor=0.8,
    beats=(
        Beat(reference=BASE),
        Beat(reference=BASE, metric="facts_3shot/exact_match"),
        Beat(reference=CHAMPION),
    ),
)
"""Four of five held-out facts, and better than the base model at its best and than what is served."""


def demo() -> Recipe:
    """Pretrain, adapt to UL2 and teach instructions, each prompt seen whole."""
    text = SourceConfig(weight=0.5, objective="ul2")
    instructions = SourceConfig(weight=0.5, objective="instruction")
    return Recipe(
        model="gptj-demo",
        corpus=CorpusConfig(kind="facts"),
        tokenizer=TokenizerConfig(kind="bpe", vocabulary=1905),
        pretraining=stage(PRETRAINING_STEPS, 2e-3, {"text": SourceConfig(objective="causal")}),
        ul2=stage(UL2_STEPS, 1e-3, {"text": SourceConfig(objective="ul2")}, mask="prefix"),
        instruct=stage(INSTRUCT_STEPS, 1e-3, {"text": text, "instructions": instructions}, mask="prefix"),
        evaluation=EVALUATION,
        policy=POLICY,
        serving=DeployConfig(probes=(WIDGET_PROMPT,), server=ServingConfig(port=0, max_new_tokens=16)),
    )
