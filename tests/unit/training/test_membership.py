"""Workers that die, hang, leave and come, in whole runs that nobody starts again."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from headrace import storage
from headrace.artifacts import LEDGER_FILE
from headrace.data.ledger import Ledger
from headrace.errors import ConfigError
from headrace.tracking import Tracker
from headrace.training import joining, loop
from headrace.training.averaging import AveragingConfig
from headrace.training.duties import Duties
from headrace.training.loop import train
from headrace.training.membership import Membership
from headrace.training.parallel import launch
from headrace.training.run import Run
from headrace.training.step import StepResult
from headrace.training.traffic import TRAFFIC_FILE
from tests.unit.training.averagings import DILOCO, KINDS
from tests.unit.training.crew import Crew, crew
from tests.unit.training.together import losses, together

STEPS, EVERY = 40, 10


@pytest.fixture
def config(tiny) -> Any:
    return replace(tiny.with_data(rows=12), steps=STEPS, checkpoint_every_steps=EVERY, averaging=DILOCO)


def undisturbed(arguments: dict[str, Any]) -> None:
    train(**arguments, tracker=Tracker())


def lines(root: Path, name: str) -> list[dict[str, Any]]:
    (path,) = root.glob(f"work/*/{name}")
    return [json.loads(line) for line in path.read_text().splitlines()]


def files_of_step(root: Path, step: int) -> list[dict[str, torch.Tensor]]:
    return [load_file(path) for path in sorted(root.glob(f"work/*/step-{step:08d}/worker-*.safetensors"))]


def test_the_others_go_on_in_their_processes_without_the_main_one_and_take_a_late_one_in(
    tiny, config, tmp_path: Path
) -> None:
    with crew(tiny.arguments(tmp_path / "out", tmp_path / "work", config=config), tmp_path / "crew") as those:
        those.start("a", "b", "c", beginners=3)
        those.wait("a", EVERY + 2)
        those.wait("b", EVERY + 2)
        gone = those.main()
        left = sorted({"a", "b", "c"} - {gone})
        those.processes[gone].kill()
        those.wait(left[0], EVERY + 5)
        with those.slowly():
            those.start("late")
            those.wait("late", EVERY + 5)
        assert those.end(gone, *left, "late") == [-9, 0, 0, 0]
        _took_every_step_once(those, left)
        joined, died = those.steps("late")[0], those.steps(gone)[-1] + 1
        assert EVERY + 5 < joined < STEPS - 3
        assert (joined - 1 - DILOCO.synchronous_steps) % DILOCO.every_steps == 0
        meeting = joined + DILOCO.every_steps - 1
        assert those.same(meeting, *left, "late")
        assert not those.same(meeting - 1, left[0], "late")
    assert [line["step"] for line in lines(tmp_path, "losses.jsonl")] == list(range(1, STEPS + 1))
    ledger = Ledger(tmp_path / "out" / LEDGER_FILE)
    rows = [len({part.row for part in ledger.of_step(step)}) for step in range(1, STEPS + 1)]
    # A third of the rows of a step that it was lost in were taken by nobody, and nobody says that they were.
    assert [step for step, count in enumerate(rows, start=1) if count != 12] in ([], [died], [died + 1])
    taken = [line["tokens"] for line in lines(tmp_path, "losses.jsonl")]
    assert all(0.7 < tokens / (count * 48) <= 1 for tokens, count in zip(taken, rows, strict=True))
    traffic = lines(tmp_path, TRAFFIC_FILE)
    assert [line["step"] for line in traffic] == list(range(1, STEPS + 1))
    assert sum(line["sent_bytes"] for line in traffic) == traffic[-1]["total_bytes"]
    regrouped = sum(line["sent_bytes"] for line in traffic[died - 1 : died + 1])  # it may have died after its step
    assert min(regrouped, traffic[joined - 1]["sent_bytes"]) > 0  # views cost something
    assert len(files_of_step(tmp_path, STEPS)) == 3
    together(3, undisturbed, tiny.arguments(tmp_path / "calm", tmp_path / "calm-work", config=config))
    loss, calm = (storage.read_manifest(tmp_path / name).facts.loss for name in ("out", "calm"))
    assert loss == pytest.approx(calm, rel=0.03)
    first, *_, last = (json.loads(line)["loss"] for line in losses(tmp_path / "work").splitlines())
    assert last < 0.6 * first


def _took_every_step_once(those: Crew, names: list[str]) -> None:
    for name in names:
        assert those.steps(name) == list(range(1, STEPS + 1))
        assert len({line["pid"] for line in those.lines(name)}) == 1


def dies_in_an_exchange() -> None:
    """Be killed while the sixth large exchange, the fourth of weights, is under way."""
    seen: list[int] = []

    def die_in(begin: Callable[[Any, torch.Tensor], Any], otherwise: Callable[..., Any]) -> Callable[..., Any]:
        def exchange(self: Membership, tensor: torch.Tensor) -> Any:
            seen.extend([1] * (tensor.numel() > 500))
            if len(seen) == 6:
                begin(self._group, tensor)
                time.sleep(random.random() * 0.002)
                os.kill(os.getpid(), signal.SIGKILL)
            return otherwise(self, tensor)

        return exchange

    Membership.all_reduce = die_in(lambda group, tensor: group.allreduce([tensor]), Membership.all_reduce)
    Membership.all_gather = die_in(
        lambda group, tensor: group.allgather([[tensor.clone() for _ in range(3)]], [tensor]), Membership.all_gather
    )


@pytest.mark.parametrize("averaging", KINDS, ids=lambda averaging: averaging.kind)
def test_an_exchange_that_a_worker_dies_in_moves_the_others_alike(
    averaging: AveragingConfig, tiny, config, tmp_path: Path
) -> None:
    config = replace(config, averaging=averaging)
    with crew(tiny.arguments(tmp_path / "out", tmp_path / "work", config=config), tmp_path / "crew") as those:
        those.start("a", "b", beginners=3)
        those.start("victim", beginners=3, before=dies_in_an_exchange)
        assert those.end("victim", "a", "b") == [-9, 0, 0]
        _took_every_step_once(those, ["a", "b"])
        died = those.steps("victim")[-1] + 1
        assert died > 2  # no gradient any more
        if averaging.kind != "compressed":
            assert those.same(died, "a", "b")
            assert not those.same(died + 1, "a", "b") or averaging.kind == "proxskip"
    one, other = files_of_step(tmp_path, STEPS)
    common = [key for key in one if key.endswith(("/common", "/momentum"))]
    assert bool(common) == (averaging.kind != "proxskip")
    assert all(torch.equal(one[key], other[key]) for key in common)
    assert all(torch.isfinite(one[key]).all() for key in one)


def test_a_worker_that_hangs_is_left_behind_and_those_told_to_stop_leave_the_rest_to_the_others(
    tiny, config, tmp_path: Path
) -> None:
    config = replace(config, steps=500, checkpoint_every_steps=500)
    with crew(tiny.arguments(tmp_path / "out", tmp_path / "work", config=config), tmp_path / "crew") as those:
        those.start("a", "b", "c", beginners=3, patience=8)
        those.wait("a", 5)
        os.kill(those.processes["c"].pid, signal.SIGSTOP)
        those.wait("a", those.steps("c")[-1] + 5)
        os.kill(those.processes["c"].pid, signal.SIGCONT)
        assert those.end("c") == [1]
        assert those.said("c").startswith("The others have gone on without this worker")
        os.kill(those.processes["a"].pid, signal.SIGTERM)
        assert those.end("a") == [143]
        assert "the others go on" in those.said("a")
        those.wait("b", those.steps("a")[-1] + 5)
        os.kill(those.processes["b"].pid, signal.SIGTERM)
        assert those.end("b") == [143]
        stopped = those.steps("b")[-1]
        assert f"after step {stopped}, which is saved" in those.said("b")
        those.start("d", "e", beginners=2)
        those.wait("d", stopped + 2)
        assert those.lines("d")[0] | {"pid": 0, "rank": 0} == {"pid": 0, "rank": 0, "step": stopped + 1, "world": 2}
    taken = [line["step"] for line in lines(tmp_path, "losses.jsonl")]
    assert taken == list(range(1, len(taken) + 1))


def hangs_before_it_tells(told: Path) -> None:
    """As the main one, be stopped between the last exchange of step 5 and telling of it; note the steps told of."""
    tell, pass_word = Duties.tell, joining.pass_word

    def note(self: Duties, result: StepResult) -> None:
        with told.open("a") as lines:
            lines.write(f"{os.getpid()} {result.step}\n")
        tell(self, result)

    def hang(run: Run, duties: Duties, result: StepResult, asked: bool) -> joining.Word:
        if result.step == 5 and run.replicas.is_main:
            os.kill(os.getpid(), signal.SIGSTOP)
        return pass_word(run, duties, result, asked)

    Duties.tell, loop.pass_word = note, hang


def test_a_main_one_that_wakes_up_after_another_has_taken_its_place_tells_of_nothing(
    tiny, config, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    with crew(tiny.arguments(tmp_path / "out", tmp_path / "work", config=config), tmp_path / "crew") as those:
        those.start("a", "b", beginners=2, patience=8, before=partial(hangs_before_it_tells, told))
        those.wait("a", 5)
        those.wait("b", 5)
        hung = those.main()
        (other,) = {"a", "b"} - {hung}
        those.wait(other, 8)
        os.kill(those.processes[hung].pid, signal.SIGCONT)
        assert those.end(hung, other) == [1, 0]
        pids = {name: those.processes[name].pid for name in (hung, other)}
    steps = [tuple(map(int, line.split())) for line in told.read_text().splitlines()]
    assert steps == [(pids[hung if step < 5 else other], step) for step in range(1, STEPS + 1)]
    assert [line["step"] for line in lines(tmp_path, "losses.jsonl")] == list(range(1, STEPS + 1))


def test_a_run_outlives_its_store_but_not_a_worker_then(tiny, config, tmp_path: Path) -> None:
    config = replace(config, steps=500)
    with crew(tiny.arguments(tmp_path / "out", tmp_path / "work", config=config), tmp_path / "crew") as those:
        those.start("a", "b", beginners=2)
        those.wait("a", 5)
        del those.store
        those.wait("a", those.steps("a")[-1] + 10)
        those.processes["b"].kill()
        assert those.end("a") == [1]
        assert those.said("a").startswith(f"The store at 127.0.0.1:{those.port} does not answer, and without it")


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"WORLD_SIZE": "2"}, r"HEADRACE_STORE is set, and torchrun or XLA laid out the processes \(WORLD_SIZE=2, cpu"),
        ({"HEADRACE_WORKERS": "few"}, "HEADRACE_WORKERS='few' is no number of workers to begin with"),
        ({"HEADRACE_PATIENCE_SECONDS": "0"}, "HEADRACE_PATIENCE_SECONDS='0' is no time to wait"),
    ],
)
def test_surroundings_that_cannot_be_meant_are_refused(
    env: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"HEADRACE_STORE": "localhost:1", **env}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        launch()


def test_processes_that_share_one_model_cannot_come_and_go(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_STORE", "localhost:1")
    with pytest.raises(ConfigError, match=r"averaging\.kind=none has processes share one model"):
        train(**tiny.arguments(tmp_path / "out", tmp_path / "work"), tracker=Tracker())
