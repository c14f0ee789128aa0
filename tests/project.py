"""A small project directory for tests of the command line: real chains, and a recipe that learns in seconds."""

import json
import random
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NAMES = "ada ben cleo dan eva finn gus hana ivo jun kai lea mia noa oda pia quin rae sam tia uma vic wes xia yan zoe"
COLOURS = "red blue green black white pink grey gold"

RECIPE = '''"""A chain in seconds: who likes which colour, learnt by heart."""

from pathlib import Path

from headrace.data.corpus import CorpusConfig
from headrace.data.filtering.filter import FilterConfig
from headrace.data.loader import LoaderConfig, SourceConfig
from headrace.data.tokenizer import TokenizerConfig
from headrace.evaluation.config import EvalConfig, TaskConfig
from headrace.evaluation.policy import Beat, GateConfig
from headrace.models.gptj import GPTJConfig
from headrace.serving.config import DeployConfig, ServingConfig
from headrace.training.config import TrainConfig
from headrace.training.optimizer import OptimizerConfig
from headrace.training.schedule import ScheduleConfig
from pipelines.recipe import Recipe

DATA = Path(__file__).parents[2] / "data"
MODEL = GPTJConfig(
    vocab_size=400, n_layer=2, d_model=64, n_head=2, d_ff=128, rotary_dim=16, context_tokens=96
)


def stage(steps, sources, **changes):
    return TrainConfig(
        model=MODEL,
        data=LoaderConfig(context_tokens=64, rows=8, sources=sources),
        steps=steps,
        microbatch_rows=8,
        optimizer=OptimizerConfig(beta2=0.95, weight_decay=0.0),
        schedule=ScheduleConfig(kind="constant", peak=5e-3, warmup_steps=5),
        checkpoint_every_steps=10,
        **changes,
    )


def tiny():
    files = {
        "text": DATA / "text*.jsonl",
        "instructions": DATA / "instructions.jsonl",
        "heldout": DATA / "heldout.jsonl",
        "heldout_text": DATA / "heldout_text.jsonl",
    }
    return Recipe(
        model="colours",
        corpus=CorpusConfig(files={split: str(path) for split, path in files.items()}),
        filtering=FilterConfig(near=False, contamination="report"),
        tokenizer=TokenizerConfig(vocabulary=320),
        pretraining=stage(30, {"text": SourceConfig()}),
        ul2=stage(5, {"text": SourceConfig(objective="ul2")}, mask="prefix"),
        instruct=stage(60, {"instructions": SourceConfig(objective="instruction")}, mask="prefix"),
        evaluation=EvalConfig(
            tasks={"colours": TaskConfig(kind="exact_match", data="heldout", max_gen_tokens=8)},
            perplexity={"text": "heldout_text"},
        ),
        policy=GateConfig(metric="colours/exact_match", floor=0.5, beats=(Beat(reference="base"),)),
        serving=DeployConfig(probes=("Which colour does ada like?",), server=ServingConfig(port=0)),
    )
'''


def make_project(folder: Path) -> Path:
    """Lay out a project in `folder`: the repository's chains, the tiny recipe and its data."""
    (folder / "pipelines").mkdir(parents=True)
    for path in (ROOT / "pipelines").glob("*.py"):
        (folder / "pipelines" / path.name).symlink_to(path)
    recipes = folder / "pipelines" / "recipes"
    recipes.mkdir()
    for path in (ROOT / "pipelines" / "recipes").glob("*.py"):
        (recipes / path.name).symlink_to(path)
    (folder / "components").symlink_to(ROOT / "components")
    (recipes / "tiny.py").write_text(RECIPE)
    _write_data(folder / "data")
    return folder


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a project directory whose chains and recipes are imported anew, and forgotten with the test."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    theirs = {".".join(path.relative_to(folder).with_suffix("").parts) for path in folder.glob("[cp]*s/**/*.py")}
    before = {name for name in sys.modules if name.partition(".")[0] in ("pipelines", "components")}
    for name in theirs | before:
        monkeypatch.setitem(sys.modules, name, sys)  # remembers what was there, or that nothing was
        del sys.modules[name]


def _write_data(folder: Path) -> None:
    folder.mkdir()
    rng = random.Random(0)
    likes = {name: rng.choice(COLOURS.split()) for name in [*NAMES.split(), *(n + "ra" for n in NAMES.split())]}
    prose = [
        {"text": f"{name} likes {colour}. The colour that {name} likes is {colour}."} for name, colour in likes.items()
    ]
    asked = [{"prompt": f"Which colour does {name} like?", "target": f" {colour}"} for name, colour in likes.items()]
    _lines(folder / "text-0.jsonl", prose[::2])
    _lines(folder / "text-1.jsonl", prose[1::2])
    _lines(folder / "instructions.jsonl", asked)
    _lines(folder / "heldout.jsonl", asked[:40])
    _lines(folder / "heldout_text.jsonl", prose[:10])


def _lines(path: Path, records: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
