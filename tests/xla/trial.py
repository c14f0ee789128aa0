"""Some steps on XLA's CPU client with four devices, beside the same steps taken eagerly; told as JSON.

A process of its own for every trial: XLA's devices and its count of compilations last as long as the process.
"""

import json
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from headrace import devices
from headrace.data.batch import UNSCORED, Batch
from headrace.data.loader import LoaderConfig, SourceConfig
from headrace.models.gptj import GPTJ, GPTJConfig
from headrace.training import optimizer as optimizers
from headrace.training.config import TrainConfig
from headrace.training.optimizer import OptimizerConfig
from headrace.training.parallel import ALONE, Replicas, launch
from headrace.training.schedule import ScheduleConfig
from headrace.training.sharding import load, place, whole
from headrace.training.spmd import spread_moments
from headrace.training.step import take_step

ROWS, TOKENS, STEPS = 8, 48, 6
CONFIG = TrainConfig(
    model=GPTJConfig(vocab_size=320, n_layer=2, d_model=32, n_head=2, d_ff=64, rotary_dim=8, context_tokens=64),
    data=LoaderConfig(context_tokens=TOKENS, rows=ROWS, sources={"any": SourceConfig()}),
    mask="prefix",
    steps=STEPS,
    microbatch_rows=4,
    # A large eps makes Adam follow a gradient's size: of one that is all rounding it would follow the sign.
    optimizer=OptimizerConfig(eps=1e-3),
    # Numbers that happen to be equal are one input of XLA's graph: a peak of 0.01 would make 1 - peak * weight_decay
    # the 0.999 of beta2 at one step, and another graph of it.
    schedule=ScheduleConfig(peak=7e-3, warmup_steps=2, decay_steps=100),
)


def batches() -> list[Batch]:
    """Packed rows, of which each step scores another number of labels."""
    draw = np.random.default_rng(0)
    made = []
    for step in range(STEPS):
        tokens_BT = draw.integers(0, 320, (ROWS, TOKENS))
        labels_BT = np.where(draw.random((ROWS, TOKENS)) < 0.2 + 0.1 * step, tokens_BT, UNSCORED)
        segments_BT = np.sort(draw.integers(1, 4, (ROWS, TOKENS))).astype(np.int32)
        prefix_BT = draw.random((ROWS, TOKENS)) < 0.3
        made.append(Batch(tokens_BT, labels_BT, segments_BT, prefix_BT))
    return made


def steps(replicas: Replicas, config: TrainConfig) -> dict[str, Any]:
    """What every step measured, compilations after each, and the weights at the end."""
    torch.manual_seed(0)
    model = place(GPTJ(config.model), replicas)
    optimizer = optimizers.build(model, config.optimizer, fused=replicas.device.fuses_optimizer)
    if replicas.spmd is not None:
        spread_moments(model, optimizer, replicas.spmd)
    losses, norms, compilations = [], [], []
    for number, batch in enumerate(batches(), 1):
        result = take_step(model, optimizer, batch, config, number, replicas)
        losses.append(result.loss)
        norms.append(result.grad_norm)
        compilations.append(devices.xla_compilations() if replicas.device.kind == "xla" else 0)
    weights, moments = whole(model.state_dict(), replicas), whole(optimizers.moments(model, optimizer), replicas)
    found = {"losses": losses, "norms": norms, "compilations": compilations, "weights": weights, "moments": moments}
    return found | {"model": model}


def furthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


def main(precision: str) -> None:
    config = replace(CONFIG, precision=precision)
    replicas = launch()
    eager, compiled = steps(ALONE, config), steps(replicas, config)
    model: GPTJ = compiled["model"]
    told = {key: {"eager": eager[key], "xla": compiled[key]} for key in ("losses", "norms", "compilations")}
    for key in ("weights", "moments"):
        told[key] = furthest(eager[key], compiled[key])
    told["trained"] = cuts(model)
    load(model, eager["weights"], replicas)
    loaded = whole(model.state_dict(), replicas)
    told["restored"] = {"cuts": cuts(model), "furthest": furthest(eager["weights"], loaded)}
    told["devices"] = devices.xla_devices()
    json.dump(told, sys.stdout)


def cuts(model: GPTJ) -> dict[str, str]:
    return {name: devices.xla_sharding(weight) for name, weight in model.named_parameters()}


if __name__ == "__main__":
    main(*sys.argv[1:])
