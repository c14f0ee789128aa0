"""The whole chain in minutes on two cores: real facts, a small GPT-J, and evidence that it learnt them.

The facts are stated as prose; instructions ask for four fifths of them. What the release is judged by is
the fifth that no instruction ever asked for.
"""

from headrace.data.corpus import CorpusConfig
from headrace.data.filtering.filter import FilterConfig
from headrace.data.loader import LoaderConfig, SourceConfig
from headrace.data.tokenizer import TokenizerConfig
from headrace.data.vocabulary import padded_size
from headrace.evaluation.config import EvalConfig, TaskConfig
from headrace.evaluation.policy import BASE, Beat, GateConfig
from headrace.evaluation.rules import CHAMPION
from headrace.models.gptj import GPTJConfig
from headrace.serving.config import DeployConfig
from headrace.training.config import TrainConfig
from headrace.training.optimizer import OptimizerConfig
from headrace.training.schedule import ScheduleConfig
from pipelines.recipe import Recipe

WIDGET_PROMPT = "Return the currency of the given country. Input: Switzerland Output:"
TOKENIZER = TokenizerConfig(kind="bpe", vocabulary=2048)
MODEL = GPTJConfig(
    vocab_size=padded_size(TOKENIZER.vocabulary),
    n_layer=4,
    d_model=192,
    n_head=3,
    d_ff=768,
    rotary_dim=32,
    context_tokens=256,
)
"""2.6 million parameters, GPT-J's proportions."""


def stage(steps: int, schedule: ScheduleConfig, sources: dict[str, SourceConfig], **changes) -> TrainConfig:
    """One training stage of the demo's model, 2,048 positions a step."""
    return TrainConfig(
        model=MODEL,
        data=LoaderConfig(context_tokens=MODEL.context_tokens, rows=8, sources=sources),
        steps=steps,
        microbatch_rows=8,
        optimizer=OptimizerConfig(beta2=0.95, weight_decay=0.1),
        schedule=schedule,
        **changes,
    )


def pretraining() -> TrainConfig:
    """As GPT-J learnt: every token from the ones before it, cosine to a tenth."""
    schedule = ScheduleConfig(kind="cosine", peak=3e-3, floor=3e-4, warmup_steps=40, decay_steps=460)
    return stage(500, schedule, {"text": SourceConfig(objective="causal")})


def ul2() -> TrainConfig:
    """As GPT-JT began: the same text denoised, each prompt seen whole."""
    schedule = ScheduleConfig(kind="linear", peak=1e-3, warmup_steps=15, decay_steps=45)
    return stage(60, schedule, {"text": SourceConfig(objective="ul2")}, mask="prefix")


def instruct() -> TrainConfig:
    """As GPT-JT ended: instructions and text, half of each, each prompt seen whole."""
    schedule = ScheduleConfig(kind="linear", peak=1e-3, warmup_steps=20, decay_steps=130)
    sources = {
        "text": SourceConfig(weight=0.5, objective="causal"),
        "instructions": SourceConfig(weight=0.5, objective="instruction"),
    }
    return stage(150, schedule, sources, mask="prefix")


EVALUATION = EvalConfig(
    tasks={
        "facts": TaskConfig(kind="exact_match", data="heldout", max_gen_tokens=16),
        "facts_3shot": TaskConfig(kind="exact_match", data="heldout_3shot", max_gen_tokens=16),
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
    """Pretrain, adapt to UL2, teach instructions; promote what answers facts it was never asked for."""
    return Recipe(
        model="gptj-demo",
        corpus=CorpusConfig(kind="facts"),
        filtering=FilterConfig(near=False, contamination="report"),
        tokenizer=TOKENIZER,
        pretraining=pretraining(),
        ul2=ul2(),
        instruct=instruct(),
        evaluation=EVALUATION,
        policy=POLICY,
        serving=DeployConfig(probes=(WIDGET_PROMPT,)),
    )
