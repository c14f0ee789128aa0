"""Loss against bytes and wall time over a slow link: synchronous data parallelism beside local updates.

Two workers, processes that talk over gloo, go on from weights that one of them trained alone, as GPT-JT went on from
GPT-J. All sides start from the same weights and see the same rows in the same order. After a collective a worker
waits for as long as a link of 100 Mbit/s would have taken for the bytes it sent. The model is a GPT-J of 0.13 M
parameters that reads the text of Python's documentation (`pydoc_data`) byte by byte; the loss is that of the last
tenth, which no one is trained on. Losses do not depend on the machine's load, and each side runs once.
"""

import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from benchmarks.alternate import Side, run_side
from benchmarks.options import Options
from benchmarks.tables import Table
from headrace.config import decode, encode
from headrace.models.gptj import GPTJ, GPTJConfig
from headrace.pages.curves import Curve, Panel, picture
from headrace.training import optimizer as optimizers
from headrace.training.averaging import AveragingConfig, CompressionConfig
from headrace.training.link import Link
from headrace.training.optimizer import OptimizerConfig
from headrace.training.schedule import ScheduleConfig
from headrace.training.synchronizers import synchronizer

WORKERS, PARENT_STEPS, STEPS, ROWS, CONTEXT = 2, 500, 1000, 8, 64
BYTES_PER_SECOND = 100e6 / 8
MODEL = GPTJConfig(vocab_size=256, n_layer=2, d_model=64, n_head=4, d_ff=256, rotary_dim=8, context_tokens=CONTEXT)
ADAM = OptimizerConfig(beta2=0.99, weight_decay=0.1)
SCHEDULE = ScheduleConfig(peak=2e-3, floor=1e-4, warmup_steps=100, decay_steps=STEPS - 100)
POINTS = 20
SIDES = {
    "synchronous": AveragingConfig(),
    "ProxSkip-Adam, p = 0.02": AveragingConfig(kind="proxskip"),
    "DiLoCo, 50 steps": AveragingConfig(kind="diloco", synchronous_steps=0, every_steps=50),
    "DiLoCo, 100 steps": AveragingConfig(kind="diloco", synchronous_steps=0, every_steps=100),
    "compressed, published": AveragingConfig(kind="compressed", synchronous_steps=0),
    "compressed, more sent": AveragingConfig(
        kind="compressed", synchronous_steps=0, compression=CompressionConfig(top_share=0.45)
    ),
    "compressed, outer momentum": AveragingConfig(
        kind="compressed", synchronous_steps=0, compression=CompressionConfig(outer_momentum=0.5)
    ),
}
Rows = tuple[torch.Tensor, torch.Tensor]


class SlowLink(Link):
    """Sleeps for as long as the bytes would have been under way."""

    def _count(self, sent: int) -> None:
        super()._count(sent)
        time.sleep(sent / BYTES_PER_SECOND)


def text() -> Rows:
    """Python's documentation as bytes: what is learned, and the tenth held out."""
    from pydoc_data.topics import topics

    whole = torch.tensor(list("\n".join(topics[name] for name in sorted(topics)).encode()), dtype=torch.uint8)
    kept = len(whole) * 9 // 10
    return whole[:kept], whole[kept:]


def rows_at(data: torch.Tensor, starts: torch.Tensor) -> Rows:
    """Rows that begin at `starts`, and what follows each of their bytes."""
    both = data[starts[:, None] + torch.arange(CONTEXT + 1)].long()
    return both[:, :-1], both[:, 1:]


def loss_of(model: GPTJ, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over all labels, nats.

    Args:
        model: Seen causally.
        tokens: [rows, context], int64.
        labels: The token after each, of the same shape.
    """
    return F.cross_entropy(model(tokens).flatten(0, 1), labels.flatten())


@torch.no_grad()
def held_out_loss(model: GPTJ, held_out: torch.Tensor) -> float:
    """The same over the text that no worker trains on, row after row.

    Args:
        model: The weights measured.
        held_out: One long text, a byte each, uint8.
    """
    return loss_of(model, *rows_at(held_out, torch.arange(0, len(held_out) - CONTEXT - 1, CONTEXT))).item()


def train_parent(file: str) -> dict[str, float]:
    """Weights that one worker trained alone on rows of its own, as large a batch as all workers' together."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, (data, held_out), draw = GPTJ(MODEL), text(), torch.Generator().manual_seed(2)
    optimizer = optimizers.build(model, ADAM)
    for step in range(1, PARENT_STEPS + 1):
        loss_of(model, *rows_at(data, torch.randint(len(data) - CONTEXT, (WORKERS * ROWS,), generator=draw))).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), ADAM.max_grad_norm)
        optimizers.set_learning_rate(optimizer, SCHEDULE.peak * min(1, step / SCHEDULE.warmup_steps))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    save_file(model.state_dict(), file)
    return {"loss": held_out_loss(model, held_out)}


def train(parent: str, averaging: dict[str, Any]) -> dict[str, Any]:
    """Train with all workers; returns what the first of them found."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        arguments = (folder, parent, decode(AveragingConfig, averaging))
        workers = [context.Process(target=work, args=(rank, *arguments)) for rank in range(WORKERS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        result: dict[str, Any] = json.loads((Path(folder) / "result.json").read_text())
    return result


def work(rank: int, folder: str, parent: str, config: AveragingConfig) -> None:
    """One worker's part."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORKERS)
    model, link, (data, held_out) = GPTJ(MODEL), SlowLink(), text()
    model.load_state_dict(load_file(parent))
    dist.barrier()
    started = time.perf_counter()
    curve = follow(model, data, config, link)
    seconds = time.perf_counter() - started
    if rank == 0:
        found = {"seconds": seconds, "loss": held_out_loss(model, held_out), "sent_bytes": link.sent_bytes}
        (Path(folder) / "result.json").write_text(json.dumps(found | {"curve": curve}))
    dist.destroy_process_group()


def follow(model: GPTJ, data: torch.Tensor, config: AveragingConfig, link: Link) -> list[dict[str, float]]:
    """Take all steps; returns how loss, bytes and time went together."""
    optimizer = optimizers.build(model, ADAM)
    averaging = synchronizer(model, optimizer, config, link)
    draw, losses, curve = torch.Generator().manual_seed(1), list[float](), list[dict[str, float]]()
    started = time.perf_counter()
    for step in range(1, STEPS + 1):
        starts = torch.randint(len(data) - CONTEXT, (WORKERS, ROWS), generator=draw)[link.rank]
        loss = loss_of(model, *rows_at(data, starts))
        loss.backward()
        if averaging.shares_gradients(step):
            link.mean_([p.grad for p in model.parameters() if p.grad is not None])
        torch.nn.utils.clip_grad_norm_(model.parameters(), ADAM.max_grad_norm)
        optimizers.set_learning_rate(optimizer, SCHEDULE.learning_rate(step))
        averaging.update(step)
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if step % (STEPS // POINTS) == 0:
            recent = sum(losses[-STEPS // POINTS :]) / (STEPS // POINTS)
            now = time.perf_counter() - started
            curve.append({"step": step, "sent_bytes": link.sent_bytes, "seconds": now, "training_loss": recent})
    averaging.settle(STEPS)
    return curve


def run(options: Options) -> Iterator[Table]:
    """Train every side once."""
    with tempfile.TemporaryDirectory() as folder:
        parent = f"{folder}/parent.safetensors"
        start = run_side(Side("benchmarks.training.low_bandwidth:train_parent", {"file": parent}))["loss"]
        found = {
            name: run_side(
                Side("benchmarks.training.low_bandwidth:train", {"parent": parent, "averaging": encode(config)})
            )
            for name, config in SIDES.items()
        }
    peer = found["synchronous"]
    yield Table(
        title=f"{WORKERS} workers, {STEPS:,} steps over {BYTES_PER_SECOND * 8 / 1e6:.0f} Mbit/s",
        rows=[row(name, one, peer) for name, one in found.items()],
        notes=[
            f"All go on from weights of loss {start:.4f}, which one worker trained alone in {PARENT_STEPS} steps.",
            "Asked: 50 times fewer bytes at a loss within 1 % of synchronous, 100 times within 2 % with compression.",
            "With an outer momentum of 0.5 the message is the published one; the step along what arrived is DiLoCo's.",
            "ProxSkip-Adam shares every gradient in its first 200 steps, as published; they are most of its bytes.",
            "Other processes kept the machine busy meanwhile: "
            + ", ".join(f"{one['other_cores']:g}" for one in found.values())
            + " cores beside each side in turn, which its seconds suffer from and its loss does not.",
        ],
        numbers={"parent_loss": start, "sides": found},
        picture=draw(found),
    )


def draw(found: Mapping[str, dict[str, Any]]) -> str:
    """Training loss, a mean over 50 steps, against what it cost."""
    panels = []
    for key, unit, name in (("sent_bytes", 1e6, "MB sent by a worker"), ("seconds", 1.0, "seconds")):
        curves = [
            Curve(side, [(point[key] / unit, point["training_loss"]) for point in one["curve"] if point[key]])
            for side, one in found.items()
        ]
        panels.append(Panel("Training loss", name, curves, logarithmic=key == "sent_bytes"))
    return picture(panels, f"{WORKERS} workers over {BYTES_PER_SECOND * 8 / 1e6:.0f} Mbit/s")


def row(name: str, one: dict[str, Any], peer: dict[str, Any]) -> dict[str, str]:
    """One side's cells: loss in nats, 10^6 bytes that one worker sent, seconds; each beside the synchronous `peer`."""
    return {
        "side": name,
        "held-out loss": f"{one['loss']:.4f}",
        "beside synchronous": f"{one['loss'] / peer['loss'] - 1:+.2%}",
        "MB sent by a worker": f"{one['sent_bytes'] / 1e6:,.2f}",
        "times fewer bytes": f"{peer['sent_bytes'] / one['sent_bytes']:,.1f}",
        "seconds": f"{one['seconds']:.1f}",
        "times faster": f"{peer['seconds'] / one['seconds']:.2f}",
    }
