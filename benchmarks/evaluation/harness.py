"""How fast tasks are scored, beside lm-evaluation-harness's HFLM on the same weights, tasks and cores.

What is timed is the harness's `evaluate`, from a task's rows to its metrics; opening the model is not. Each
side has one thread, and its seconds are those that this thread ran, so that other processes count little.
"""

import itertools
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.alternate import Measured, Side, alternate, others_note, run_side
from benchmarks.evaluation.inputs import SHAPES, write_examples, write_model, write_texts
from benchmarks.options import Options
from benchmarks.tables import Table

ASKED = {"hellaswag": 3.0, "lambada_openai": 1.5}
COUNTS = {"hellaswag": 120, "lambada_openai": 240}
BATCH_SIZES = (1, 8, 32)
"""Tried for the peer, which is then given its best."""
TOLERANCE = 1e-4
"""Most nats that log-likelihoods may differ by."""


def ours(folder: str, kind: str) -> dict[str, Any]:
    """Score a task with the sealed checkpoint."""
    from headrace.evaluation.lm import HeadraceLM

    return evaluate(HeadraceLM.from_checkpoint(Path(folder) / "checkpoint"), folder, kind)


def theirs(folder: str, kind: str, batch_size: int) -> dict[str, Any]:
    """Score a task with the same weights in transformers."""
    from lm_eval.models.huggingface import HFLM

    return evaluate(HFLM(pretrained=str(Path(folder) / "hf"), batch_size=batch_size, device="cpu"), folder, kind)


def evaluate(lm: Any, folder: str, kind: str) -> dict[str, Any]:
    """Run the harness; seconds, metrics, and the log-likelihood of every request."""
    import torch
    from lm_eval.evaluator import evaluate as run_harness

    from headrace.evaluation.config import TaskConfig
    from headrace.evaluation.tasks import build_task

    with tempfile.TemporaryDirectory() as rows:
        task = build_task(kind, TaskConfig(kind=kind, data=kind), {kind: f"{folder}/{kind}.jsonl"}, Path(rows))
        torch.set_num_threads(1)
        started, clock = time.process_time(), time.perf_counter()
        results = run_harness(lm, {kind: task}, bootstrap_iters=0, log_samples=True)
        seconds, wall = time.process_time() - started, time.perf_counter() - clock
    named = {name.removesuffix(",none"): value for name, value in results["results"][kind].items() if "," in name}
    metrics = {name: value for name, value in named.items() if isinstance(value, float) and "stderr" not in name}
    samples = sorted(results["samples"][kind], key=lambda sample: int(sample["doc_id"]))
    nats = [float(answer[0]) for sample in samples for answer in sample["filtered_resps"]]
    return {"seconds": seconds, "wall_seconds": wall, "metrics": metrics, "nats": nats}


def best_batch_size(folder: str, kind: str) -> int:
    """The batch size with which the peer is fastest."""
    function = f"{__name__}:theirs"
    seconds = {
        size: run_side(Side(function, {"folder": folder, "kind": kind, "batch_size": size}))["seconds"]
        for size in BATCH_SIZES
    }
    return min(seconds, key=lambda size: seconds[size])


def measure(folder: str, kind: str, rounds: int) -> dict[str, Any]:
    """Both sides on one task, alternated."""
    size = best_batch_size(folder, kind)
    arguments = {"folder": folder, "kind": kind}
    sides = {
        "headrace": Side(f"{__name__}:ours", arguments),
        "HFLM": Side(f"{__name__}:theirs", {**arguments, "batch_size": size}),
    }
    found = alternate(sides, rounds)
    ratio = found["HFLM"].median() / found["headrace"].median()
    return {"ratio": ratio, "batch_size": size, **_agreement(found), "sides": {n: _sums(m) for n, m in found.items()}}


def _agreement(found: Mapping[str, Measured]) -> dict[str, Any]:
    """How far scores of the two sides are apart, over all rounds."""
    mine, peer = ([run["nats"] for run in found[name].runs] for name in ("headrace", "HFLM"))
    off = max(abs(a - b) for left, right in itertools.product(mine, peer) for a, b in zip(left, right, strict=True))
    metrics = {name: found[name].runs[0]["metrics"] for name in ("headrace", "HFLM")}
    equal = all(metrics["headrace"][name] == metrics["HFLM"][name] for name in metrics["HFLM"] if name[:3] == "acc")
    return {"nats_apart": off, "accuracies_equal": equal, "requests": len(mine[0]), "metrics": metrics}


def _sums(measured: Measured) -> dict[str, Any]:
    runs = [{key: value for key, value in run.items() if key not in ("nats", "metrics")} for run in measured.runs]
    return {"seconds": measured.median(), "spread": measured.spread(), "runs": runs}


def run(options: Options) -> Iterator[Table]:
    """Measure each task with each model."""
    for name, shape in SHAPES.items():
        with tempfile.TemporaryDirectory(prefix="headrace-benchmark-") as made:
            folder = Path(made)
            real = all([write_examples(kind, folder, count) for kind, count in COUNTS.items()])
            parameters = write_model(shape, folder, write_texts(folder))
            numbers = {kind: measure(made, kind, options.rounds) for kind in COUNTS}
        yield Table(
            title=f"Tasks scored, a model with {name}",
            rows=[_row(kind, found) for kind, found in numbers.items()],
            notes=list(_notes(numbers, parameters, shape.d_model, real)),
            numbers={"parameters": parameters, "real_examples": real, **numbers},
        )


def _row(kind: str, found: Mapping[str, Any]) -> dict[str, str]:
    sides = found["sides"]
    return {
        "task": kind,
        "requests": f"{found['requests']:,}",
        "headrace, core s": f"{sides['headrace']['seconds']:.1f}",
        "HFLM, core s": f"{sides['HFLM']['seconds']:.1f} (batch {found['batch_size']})",
        "HFLM / headrace": f"{found['ratio']:.2f}",
        "asked": f"{ASKED[kind]:g}",
        "nats apart": f"{found['nats_apart']:.1e}",
        "accuracies": "equal" if found["accuracies_equal"] else "NOT EQUAL",
    }


def _notes(numbers: Mapping[str, Any], parameters: int, width: int, real: bool) -> Iterator[str]:
    yield f"{parameters / 1e6:.0f} M random parameters, {width} wide, fp32, causal; one thread."
    yield "Real examples." if real else "Seeded text with the lengths of the real examples, which were not at hand."
    sizes = ", ".join(map(str, BATCH_SIZES))
    yield f"HFLM was run once with each of the batch sizes {sizes} and then with its best; ours has its default."
    for kind, found in numbers.items():
        if found["nats_apart"] > TOLERANCE or not found["accuracies_equal"]:
            yield f"Scores of {kind} do NOT agree: {found['nats_apart']:.1e} nats apart at most."
        if found["ratio"] < ASKED[kind]:
            yield f"{kind} falls short of what was asked: {found['ratio']:.2f} of {ASKED[kind]:g}."
    yield others_note(Measured(side["runs"]) for one in numbers.values() for side in one["sides"].values())
