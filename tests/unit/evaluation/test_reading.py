"""Rows read without padding have the hidden states that the model gives each of them alone."""

import random

import pytest
import torch

from headrace.evaluation import reading
from headrace.evaluation.reading import Fork, read
from headrace.models.gptj import GPTJ
from headrace.models.masks import forked


def random_rows(count: int) -> list[Fork]:
    """Rows of many lengths, plain and forked, some of a length and shape that their neighbour has too."""
    draw = random.Random(0)
    rows = []
    for _ in range(count):
        trunk, branches = draw.randint(1, 12), draw.choice([[0], [5], [3, 0, 4], [2, 2]])
        rows += [
            Fork([draw.randrange(400) for _ in range(trunk + sum(branches))], trunk, branches)
            for _ in range(draw.choice([1, 3]))
        ]
    return rows


@pytest.mark.parametrize("at_once", [3, 1000])
@pytest.mark.parametrize("prompt", [False, True])
@torch.no_grad()
def test_hidden_states_are_those_of_each_row_alone(
    model: GPTJ, prompt: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "FEED_FORWARD_TOKENS", at_once)
    rows = random_rows(12)
    alone_ND = torch.cat(
        [
            model.hidden(torch.tensor([row.tokens]), forked([row.trunk], [row.branches], prompt=prompt))[0]
            for row in rows
        ]
    )
    asked_M = torch.tensor(sorted(random.Random(1).sample(range(len(alone_ND)), 40)))
    torch.testing.assert_close(read(model, rows, asked_M, prompt=prompt), alone_ND[asked_M], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_last_feed_forward_is_given_what_is_asked_for_alone(model: GPTJ, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    for layer in model.layers:
        forward = layer.ff_in.forward
        monkeypatch.setattr(layer.ff_in, "forward", lambda x, forward=forward: given.append(len(x)) or forward(x))
    read(model, [Fork(list(range(20)), 20, [0]), Fork(list(range(7)), 7, [0])], torch.tensor([19, 26]), prompt=False)
    assert given == [27] * (len(model.layers) - 1) + [2]
