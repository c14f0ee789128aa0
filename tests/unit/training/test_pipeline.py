"""Runs whose layers are in stages, over gloo, against the same run in one process."""

import functools
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from headrace import storage
from headrace.artifacts import LEDGER_FILE, MODEL_FILE, OPTIMIZER_FILE
from headrace.models.gptj import GPTJ
from headrace.training import step
from headrace.training.averaging import gptjt
from headrace.training.config import TrainConfig
from headrace.training.guard import GuardConfig
from headrace.training.inputs import open_inputs
from headrace.training.optimizer import OptimizerConfig
from headrace.training.parallel import launch
from headrace.training.run import Run
from tests.unit.training.together import losses, together
from tests.unit.training.trained import Trained, agree, refused, run

STEPS, EVERY = 8, 4


@pytest.fixture(scope="module")
def config(tiny) -> TrainConfig:
    return replace(
        tiny.with_model(n_layer=4),
        data=replace(tiny.config.data, rows=8),
        microbatch_rows=1,
        steps=STEPS,
        checkpoint_every_steps=EVERY,
        # A large eps makes Adam follow a gradient's size: of one that is all rounding it would follow the sign.
        optimizer=OptimizerConfig(eps=1e-3, weight_decay=0.1, max_grad_norm=0.5),
    )


@pytest.fixture(scope="module")
def straight(tiny, config, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """A run on a mesh from its first step to its last, each taken once."""
    return functools.cache(lambda mesh: run(mesh, tiny, config, tmp_path_factory.mktemp("run"), recompute="layers"))


@pytest.fixture(scope="module")
def alone(straight) -> Trained:
    return straight("data=1")


@pytest.fixture(scope="module", params=["pipeline=2", "data=2,pipeline=2", "pipeline=4"])
def staged(request, straight) -> Trained:
    return straight(request.param)


def cut_short(trained: Trained, root: Path) -> Path:
    """The workspace of a run as it was before its last checkpoint."""
    work = shutil.copytree(trained.work, root / "cut")
    (last,) = work.glob(f"*/step-{STEPS:08d}")
    shutil.rmtree(last)
    return work


def agree_on_steps(one: Trained, other: Trained, rel: float = 1e-5) -> None:
    for mine, theirs in zip(one.steps(), other.steps(), strict=True):
        for key in ("loss", "grad_norm"):
            assert theirs.pop(key) == pytest.approx(mine.pop(key), rel=rel)
        assert mine == theirs


def test_every_step_in_stages_is_that_of_one_process(alone: Trained, staged: Trained) -> None:
    agree_on_steps(alone, staged)
    steps = alone.steps()
    assert all(step["grad_norm"] > 0.5 for step in steps)  # which are clipped
    assert len({step["labels"] for step in steps}) > 1


def test_weights_and_moments_of_all_stages_are_those_of_one_process(alone: Trained, staged: Trained) -> None:
    agree(load_file(alone.out / MODEL_FILE), load_file(staged.out / MODEL_FILE))
    agree(alone.tensors(MODEL_FILE, EVERY), staged.tensors(MODEL_FILE, EVERY))
    agree(alone.tensors(OPTIMIZER_FILE, EVERY), staged.tensors(OPTIMIZER_FILE, EVERY))
    assert (staged.out / LEDGER_FILE).read_bytes() == (alone.out / LEDGER_FILE).read_bytes()


@pytest.mark.parametrize(("before", "after"), [("data=1", "pipeline=2"), ("data=2,pipeline=2", "data=1")])
def test_a_run_goes_on_in_stages_and_out_of_them(
    before: str, after: str, tiny, config, alone: Trained, straight, tmp_path: Path
) -> None:
    again = run(after, tiny, config, tmp_path, cut_short(straight(before), tmp_path))
    agree_on_steps(alone, again)
    agree(load_file(alone.out / MODEL_FILE), load_file(again.out / MODEL_FILE))
    agree(alone.tensors(OPTIMIZER_FILE, STEPS), again.tensors(OPTIMIZER_FILE, STEPS))


def test_stages_that_resume_take_the_same_steps_to_the_last_bit(tiny, config, straight, tmp_path: Path) -> None:
    whole = straight("pipeline=2")
    again = run("pipeline=2", tiny, config, tmp_path, cut_short(whole, tmp_path), recompute="layers")
    assert losses(again.work) == losses(whole.work)
    assert storage.verify(again.out).digest == storage.verify(whole.out).digest


def test_products_in_half_precision_are_the_same_in_stages(tiny, config, tmp_path: Path) -> None:
    rounded = replace(config, precision="bf16", steps=EVERY)  # a few, before a last bit here and there adds up
    one, two = (run(mesh, tiny, rounded, tmp_path / mesh) for mesh in ("data=1", "pipeline=2"))
    agree_on_steps(one, two)


def begun(arguments: dict[str, Any]) -> Run:
    config = arguments["config"]
    inputs = open_inputs(arguments["sources"], arguments["tokenizer_uri"], None, config)
    return Run(inputs, config, launch())


def holds_a_part(arguments: dict[str, Any]) -> None:
    run, whole = begun(arguments), GPTJ(arguments["config"].model).state_dict()
    assert run.resumable_bytes() == 3 * sum(tensor.nbytes for tensor in whole.values())
    held: list[list[str]] = [[], []]
    dist.all_gather_object(held, sorted(run.model.state_dict()))
    assert sorted(held[0] + held[1]) == sorted(whole)
    assert {name.split(".")[0] for name in held[0]} == {"embedding", "layers"}
    assert {name.split(".")[1] for name in held[1] if name.startswith("layers.")} == {"2", "3"}


def test_a_stage_holds_its_layers_alone_and_knows_how_large_all_are(tiny, config, tmp_path: Path) -> None:
    arguments = tiny.arguments(tmp_path / "out", tmp_path / "work", config=config)
    together(2, holds_a_part, arguments, env={"HEADRACE_MESH": "pipeline=2"})


def overflows_on_the_last_stage(arguments: dict[str, Any]) -> None:
    """Take two steps whose gradient overflows in the second process alone: at a high scale, and then at any."""
    run = begun(arguments)
    config, replicas = run.config, run.replicas
    whole, limit = step.differentiate, 8192.0

    def differentiate(*given: Any) -> torch.Tensor:
        total = whole(*given)
        if not replicas.is_main and run.scale.factor > limit:
            run.model.head.bias.grad *= torch.inf
        return total

    step.differentiate = differentiate
    batch, more = next(run.batches()), {"scale": run.scale, "guard": run.guard}
    assert not step.take_step(run.model, run.optimizer, batch, config, 1, replicas, **more).skipped
    assert run.scale.factor == limit
    before, limit = [weight.to_local().clone() for weight in run.model.parameters()], 0.0
    assert step.take_step(run.model, run.optimizer, batch, config, 2, replicas, **more).skipped.startswith("grad_norm=")
    for old, new in zip(before, run.model.parameters(), strict=True):
        assert torch.equal(old, new.to_local())


def test_all_stages_lower_the_scale_and_skip_for_one_that_overflows(tiny, config, tmp_path: Path) -> None:
    halved = replace(config, precision="fp16", guard=GuardConfig(skips=1))
    arguments = tiny.arguments(tmp_path / "out", tmp_path / "work", config=halved)
    together(2, overflows_on_the_last_stage, arguments, env={"HEADRACE_MESH": "pipeline=2"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda config: replace(config, model=replace(config.model, n_layer=3)), "cannot share model.n_layer=3"),
        (
            lambda config: replace(config, microbatch_rows=8),
            "8 rows are no 2 microbatches or more of microbatch_rows=8",
        ),
        (lambda config: replace(config, averaging=gptjt()), r"HEADRACE_MESH has pipeline=2, and with train\.averaging"),
    ],
    ids=["layers", "microbatches", "averaging"],
)
def test_what_stages_cannot_do_is_refused(change, said: str, tiny, config, tmp_path: Path) -> None:
    arguments = tiny.arguments(tmp_path / "out", tmp_path / "work", config=change(config))
    together(2, refused, arguments, said, env={"HEADRACE_MESH": "pipeline=2"})
    assert not (tmp_path / "out").exists()
