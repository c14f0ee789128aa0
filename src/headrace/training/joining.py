"""Between two steps: who goes, who comes, and how a newcomer is given the state of the workers that it joins.

It comes from the first of them, over the link, in an exchange of which all are part: who gives may die meanwhile, and
the next one begins again.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from headrace.errors import UnavailableError
from headrace.training.circle import PeerLost
from headrace.training.duties import Duties
from headrace.training.link import Link
from headrace.training.run import Run, State
from headrace.training.step import StepResult
from headrace.training.worker_files import WorkerState

GUESTS = 8
"""Newcomers taken in at a time; more wait for the next exchange."""


class Word(NamedTuple):
    """What all workers have heard at the end of a step."""

    ends: bool
    """The run is to be saved and left by all."""
    leaves: bool
    """This worker goes and the others go on."""
    invited: list[int]
    """Newcomers, by number."""


def pass_word(run: Run, duties: Duties, result: StepResult, asked: bool) -> Word:
    """Tell of a step in the main process, and let all know who goes and who comes after it.

    Args:
        run: Has finished the step.
        duties: Of this process.
        result: Of the step.
        asked: Whether this process was told to stop.
    """
    link = run.replicas.link
    if link is None:
        duties.tell(result)
        return Word(run.replicas.any(asked), False, [])

    def say() -> Tensor:
        invited, generation = [], 0
        if link.rank == 0:
            if link.circle.is_superseded():  # it hung, and another one writes files now
                raise PeerLost("the others have gone on")
            duties.tell(result)
            generation = link.circle.generation
            if run.meets(result):
                invited = link.circle.asking(min(run.config.data.rows - link.world, GUESTS))
        numbers = [1, int(asked), generation, *invited, *[0] * (GUESTS - len(invited))]
        return torch.tensor(numbers, dtype=torch.float64)

    here, stopping, generation, *guests = map(int, link.total(say).tolist())
    link.share_out(generation)
    duties.note()
    ends = stopping == here if link.circle.elastic else stopping > 0
    return Word(ends, asked and not ends, [guest for guest in guests if guest])


def take_in(run: Run, link: Link, word: Word) -> None:
    """Make room for newcomers and give them the state of the run."""
    link.invite(word.invited)
    pass_on(link, run.handed_over, run.join)
    link.share_out()


def pass_on(link: Link, give: Callable[[], State], accept: Callable[[State], None]) -> None:
    """Bring what `give` returns at the first worker that has a state to those that have none.

    All workers call it after the same exchange, newcomers first of all.

    Raises:
        UnavailableError: All who had it are gone.
    """

    def attempt() -> Tensor:
        newcomers = link.circle.newcomers
        givers = [rank for rank in range(link.world) if rank not in newcomers]
        if not givers:
            raise UnavailableError(
                "All workers that could tell this one the state of the run are gone. Start it again: it goes on from "
                "the last checkpoint."
            )
        if link.rank in newcomers:
            accept(_take(link, givers[0]))
            link.circle.received()
        elif link.rank == givers[0]:
            for rank in newcomers:
                _give(link, rank, *give())
        link.barrier()
        return torch.empty(0)

    link.exchange(attempt, torch.empty(0))
    link.circle.received()


def _give(link: Link, to: int, state: Mapping[str, Any], own: WorkerState) -> None:
    tensors = {(part, name): tensor for part, named in own._asdict().items() for name, tensor in named.items()}
    shapes = [[*key, list(tensor.shape), str(tensor.dtype).removeprefix("torch.")] for key, tensor in tensors.items()]
    head = torch.frombuffer(bytearray(json.dumps([state, shapes]).encode()), dtype=torch.uint8)
    for tensor in (torch.tensor([head.numel()]), head, *tensors.values()):
        link.send(tensor, to)


def _take(link: Link, source: int) -> State:
    size = link.receive(torch.empty(1, dtype=torch.int64), source)
    head = link.receive(torch.empty(int(size), dtype=torch.uint8), source)
    state, shapes = json.loads(bytes(head.tolist()))
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in WorkerState._fields}
    for part, name, shape, dtype in shapes:
        room = torch.empty(math.prod(shape), dtype=getattr(torch, dtype))
        parts[part][name] = link.receive(room, source).view(shape)
    return state, WorkerState(**parts)
