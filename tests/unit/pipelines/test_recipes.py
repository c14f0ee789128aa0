"""Recipes hold together, and those of published models hold the published numbers, listed here a second time."""

import dataclasses
import importlib
import json
from typing import Any

import pytest

from headrace.config import decode, encode
from headrace.data.corpus import FACTS_FILES
from headrace.data.loader import LoaderConfig, SourceConfig
from headrace.errors import ConfigError
from headrace.models.gptj import GPTJConfig
from headrace.training.averaging import AveragingConfig
from headrace.training.config import TrainConfig
from headrace.training.optimizer import OptimizerConfig
from headrace.training.schedule import ScheduleConfig
from tests.project import ROOT

NAMES = sorted(path.stem for path in (ROOT / "pipelines" / "recipes").glob("[!_]*.py"))
PUBLISHED_SHAPE = GPTJConfig(
    vocab_size=50400, n_layer=28, d_model=4096, n_head=16, d_ff=16384, rotary_dim=64, context_tokens=2048,
    norm_eps=1e-5,
)  # fmt: skip


def recipe(name: str) -> Any:
    return getattr(importlib.import_module(f"pipelines.recipes.{name}"), name)()


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_survives_its_way_through_kfp(name: str) -> None:
    made = recipe(name)
    assert decode(type(made), json.loads(json.dumps(encode(made)))) == made


@pytest.mark.parametrize("name", NAMES)
def test_what_a_recipe_evaluates_and_trains_on_is_in_its_corpus(name: str) -> None:
    made = recipe(name)
    wanted = {split for stage in (made.pretraining, made.ul2, made.instruct) if stage for split in stage.data.sources}
    wanted |= {split for task in made.evaluation.tasks.values() for split in (task.data, task.fewshot) if split}
    wanted |= set(made.evaluation.perplexity.values())
    assert wanted <= set(FACTS_FILES if made.corpus.kind == "facts" else [*made.corpus.files, *made.corpus.sources])


def test_a_name_that_the_corpus_does_not_have_is_refused_before_anything_runs() -> None:
    made = recipe("gptjt_data")
    for name, told in (("pyle", "Did you mean 'pile'"), ("extra/ArXiv", "no source of the corpus")):
        mixture = {name: SourceConfig(weight=0.5), "pile/ArXiv": SourceConfig(weight=0.5)}
        stage = dataclasses.replace(made.instruct, data=dataclasses.replace(made.instruct.data, sources=mixture))
        with pytest.raises(ConfigError, match=f"data.sources has '{name}'.*{told}"):
            dataclasses.replace(made, instruct=stage)
        # Lines of a file may name any source themselves.
        named = dataclasses.replace(made.corpus, files=made.corpus.files | {"text": "corpora/own.jsonl"})
        dataclasses.replace(made, instruct=stage, corpus=named)
    for corpus in (made.corpus, recipe("demo").corpus):
        evaluation = dataclasses.replace(made.evaluation, tasks={}, headline=None, perplexity={"pile": "heldout_txt"})
        with pytest.raises(ConfigError, match=r"evaluation reads 'heldout_txt', .* Did you mean 'heldout_text'\?"):
            dataclasses.replace(made, evaluation=evaluation, corpus=corpus)


def test_gptj_6b_is_trained_as_published() -> None:
    made = recipe("gptj_6b")
    assert made.tokenizer.kind == "gpt2"
    assert made.pretraining == TrainConfig(
        model=PUBLISHED_SHAPE,
        data=LoaderConfig(context_tokens=2048, rows=512, sources={"text": SourceConfig(weight=1, objective="causal")}),
        mask="causal",
        steps=383_500,
        optimizer=OptimizerConfig(beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.1, max_grad_norm=1.0),
        schedule=ScheduleConfig(kind="cosine", peak=1.2e-4, floor=1.2e-5, warmup_steps=3000, decay_steps=300_000),
        z_loss=1e-4,
        precision="bf16",
        microbatch_rows=made.pretraining.microbatch_rows,
        checkpoint_every_steps=made.pretraining.checkpoint_every_steps,
    )
    tokens = made.pretraining.steps * made.pretraining.data.rows * made.pretraining.data.context_tokens
    assert round(tokens / 1e9) == 402


def test_gptj_6b_is_evaluated_as_published() -> None:
    evaluation = recipe("gptj_6b").evaluation
    assert set(evaluation.tasks) == {"lambada_openai", "winogrande", "hellaswag", "piqa"}
    assert evaluation.bos_eos


def test_gptjt_6b_is_finetuned_as_published() -> None:
    made = recipe("gptjt_6b")
    for stage, steps, billions in ((made.ul2, 20_000, 2.62), (made.instruct, 7_000, 0.92)):
        assert (stage.steps, stage.data.rows, stage.data.context_tokens) == (steps, 64, 2048)
        assert round(stage.steps * 64 * 2048 / 1e9, 2) == billions
        assert (stage.model, stage.mask, stage.z_loss) == (PUBLISHED_SHAPE, "prefix", 0.0)
        assert stage.optimizer == OptimizerConfig(
            beta1=0.9, beta2=0.999, eps=1e-6, weight_decay=0.01, max_grad_norm=1.0
        )
        assert stage.schedule.learning_rate(100) == stage.schedule.peak == 1e-5
        assert stage.schedule.learning_rate(50) == pytest.approx(5e-6)
        assert stage.schedule.learning_rate(steps) == 0
    assert {name: source.objective for name, source in made.ul2.data.sources.items()} == {"pile": "ul2"}
    mixture = {name: source.weight for name, source in made.instruct.data.sources.items()}
    assert mixture == {"pile": 0.55, "p3": 0.20, "natural_instructions": 0.20, "cot": 0.05}
    assert made.corpus.sources["natural_instructions"].except_tasks.endswith("test_tasks.txt")
    assert made.base == "checkpoints/gptj-6b"  # where the README has GPT-J imported to


def test_gptjt_6b_over_slow_links_differs_in_how_workers_meet_alone() -> None:
    shared, apart = recipe("gptjt_6b"), recipe("gptjt_6b_decentralized")
    for stage in (apart.ul2, apart.instruct):
        assert (stage.averaging.kind, stage.averaging.probability, stage.averaging.synchronous_steps) == (
            "proxskip",
            0.02,
            200,
        )
    together = {"averaging": AveragingConfig(), "checkpoint_every_steps": shared.ul2.checkpoint_every_steps}
    assert shared == dataclasses.replace(
        apart, ul2=dataclasses.replace(apart.ul2, **together), instruct=dataclasses.replace(apart.instruct, **together)
    )


def test_the_demos_control_differs_in_the_mask_and_the_name_alone() -> None:
    demo, control = recipe("demo"), recipe("demo_causal")
    assert control.model != demo.model
    assert (control.ul2.mask, control.instruct.mask) == ("causal", "causal")
    assert demo == dataclasses.replace(
        control,
        model=demo.model,
        ul2=dataclasses.replace(control.ul2, mask="prefix"),
        instruct=dataclasses.replace(control.instruct, mask="prefix"),
    )
