"""Proof that a resumed run is the run that was never interrupted: both made, and compared bit for bit."""

import hashlib
import json
import platform
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

import headrace
from headrace import checkpoints, storage
from headrace.artifacts import LEDGER_FILE, MODEL_FILE, OPTIMIZER_FILE, Checkpoint, Manifest, ResumeCertificate
from headrace.config import encode
from headrace.devices import pick
from headrace.errors import TrainingError
from headrace.training.config import TrainConfig
from headrace.training.logs import LOSS_FILE
from headrace.training.loop import train
from headrace.training.rehearsal import Rehearsal, Work

CONFIG_FILE = "config.json"
Told = Callable[[str, int], None]
"""Hears which run is under way and which step it has taken."""


def certify(
    arguments: Mapping[str, Any],
    output_uri: str | Path,
    *,
    recipe: str,
    stage: str,
    kills: int,
    seed: int,
    processes: int = 1,
    told: Told = lambda run, steps: None,
    work: Work = train,
) -> Manifest:
    """Run once undisturbed and once killed with SIGKILL and resumed, compare, and seal what was found.

    Args:
        arguments: `sources`, `tokenizer_uri`, `config` and `init_uri` of `train`; the configuration is a short one.
        output_uri: Where the `ResumeCertificate` goes, passed or not.
        recipe: Its name.
        stage: The recipe's section that `config` is of.
        kills: How often the second run is killed.
        seed: Of the steps at which.
        processes: That take every step together, as torchrun starts them.
        told: Hears how far the runs are.
        work: What trains.

    Raises:
        TrainingError: A run failed by itself, or has too few steps for the kills.
    """
    config: TrainConfig = arguments["config"]
    last = config.steps - max(1, config.steps // 8)  # a kill that comes late must not find the run at its end
    if not 1 <= kills < last:
        raise TrainingError(f"{config.steps:,} steps cannot be interrupted {kills:,} times. Give more steps.")
    at = sorted(random.Random(seed).sample(range(1, last), kills))
    with tempfile.TemporaryDirectory(prefix="headrace-rehearsal-") as folder:
        straight = Rehearsal(Path(folder, "straight"), arguments, work, processes)
        straight.run((), lambda steps: told("undisturbed", steps))
        resumed = Rehearsal(Path(folder, "resumed"), arguments, work, processes)
        killed = resumed.run(at, lambda steps: told("killed and resumed", steps))
        expected, found = evidence(straight), evidence(resumed)
        differences = tuple(_differences(straight, resumed, expected, found))
        parents = storage.read_manifest(straight.output).parents
    facts = ResumeCertificate(
        recipe=recipe,
        stage=stage,
        config=_digest(encode(config)),
        code=code_version(),
        torch=str(torch.__version__),
        device=_device(),
        processes=processes,
        steps=config.steps,
        killed_at=tuple(killed),
        digests=expected,
        differences=differences,
        passed=not differences,
    )
    with storage.writing(output_uri) as tree:
        (tree.path / CONFIG_FILE).write_text(json.dumps(encode(config), indent=1, sort_keys=True) + "\n")
        return tree.commit(facts, parents)


def evidence(run: Rehearsal) -> dict[str, str]:
    """Everything that has to be equal, as SHA-256: of the last resumable checkpoint, the logs and the output.

    Raises:
        TrainingError: There is no whole checkpoint after the last step.
    """
    last = checkpoints.find_latest(run.home)
    if last is None:
        raise TrainingError(f"The short run left no checkpoint in {run.home}. Give it more steps.")
    manifest, state = storage.verify(last), checkpoints.read_state(last)
    return {
        "parameters": manifest.files[MODEL_FILE].sha256,
        "optimizer moments": manifest.files[OPTIMIZER_FILE].sha256,
        "random numbers": _digest({key: state[key] for key in state if key.endswith("rng")}),
        "data position": _digest(state["data"]),
        "guard": _digest(state["guard"]),
        "sample stream": manifest.files[LEDGER_FILE].sha256,
        "losses": storage.hash_file(run.home / LOSS_FILE),
        "published checkpoint": storage.read(run.output, Checkpoint).digest,
    }


def _differences(
    straight: Rehearsal, resumed: Rehearsal, expected: Mapping[str, str], found: Mapping[str, str]
) -> Iterator[str]:
    """What is not equal, a sentence each; losses say from which step on."""
    for name, digest in expected.items():
        if digest == found[name]:
            continue
        told = f"{name} differ" if name.endswith("s") else f"{name} differs"
        yield f"{told} from step {_parting(straight, resumed):,} on" if name == "losses" else told


def _parting(straight: Rehearsal, resumed: Rehearsal) -> int:
    """The first step whose line in the logs of losses is not the same."""
    one, other = ((run.home / LOSS_FILE).read_text().splitlines() for run in (straight, resumed))
    same = [ours == theirs for ours, theirs in zip(one, other, strict=False)]
    return (same.index(False) if False in same else len(same)) + 1


def code_version() -> str:
    """The release and a digest over the library's own text, which tells a changed checkout from the release."""
    root = Path(headrace.__file__).parent
    text = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        text.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return f"{headrace.__version__}+{text.hexdigest()[:12]}"


def _device() -> str:
    """What the runs computed on, as a reader would name it."""
    picked = pick()
    if picked.kind == "cuda":
        return f"cuda ({torch.cuda.get_device_name(picked.torch)})"
    return f"{picked.kind} ({platform.machine()}, {torch.get_num_threads()} threads)"


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
