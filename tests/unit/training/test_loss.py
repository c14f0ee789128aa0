import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from headrace.data.batch import UNSCORED
from headrace.training import loss as losses
from headrace.training.loss import summed_loss

D, V = 6, 11


def some_batch(dtype: torch.dtype = torch.float32) -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    """A head, hidden_BTD of 3 x 5 positions and labels of which 9 are scored."""
    torch.manual_seed(0)
    hidden_BTD = torch.randn(3, 5, D, dtype=dtype)
    labels_BT = torch.randint(0, V, (3, 5))
    labels_BT[0, 2:] = UNSCORED
    labels_BT[2, ::2] = UNSCORED
    return nn.Linear(D, V, dtype=dtype), hidden_BTD, labels_BT


def in_plain_python(head: nn.Linear, hidden_BTD: torch.Tensor, labels_BT: torch.Tensor) -> tuple[float, float]:
    """Cross entropy and squared logsumexp, one logit at a time in float64."""
    entropy = square = 0.0
    weight, bias = head.weight.tolist(), head.bias.tolist()
    for hidden, label in zip(hidden_BTD.reshape(-1, D).tolist(), labels_BT.flatten().tolist(), strict=True):
        if label == UNSCORED:
            continue
        logits = [sum(w * h for w, h in zip(row, hidden, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
        logsumexp = math.log(sum(math.exp(logit) for logit in logits))
        entropy += logsumexp - logits[label]
        square += logsumexp**2
    return entropy, square


def test_loss_is_that_of_a_plain_float64_loop_over_the_scored_positions() -> None:
    head, hidden_BTD, labels_BT = some_batch()
    entropy, square = in_plain_python(head, hidden_BTD, labels_BT)
    result = summed_loss(head, hidden_BTD, labels_BT, z_loss=0.3)
    assert result.cross_entropy.item() == pytest.approx(entropy, rel=1e-6)
    assert result.objective.item() == pytest.approx(entropy + 0.3 * square, rel=1e-6)


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("block_logits", [1, 2 * V, 4 * V, 1000])
def test_value_and_gradients_are_autograds_whatever_is_projected(block_logits, everywhere: bool, monkeypatch) -> None:
    monkeypatch.setattr(losses, "BLOCK_LOGITS", block_logits)
    if everywhere:  # as on XLA
        monkeypatch.setattr(losses, "_projected", lambda labels_N: torch.arange(len(labels_N)))
    head, hidden_BTD, labels_BT = some_batch()
    hidden_BTD.requires_grad_()
    inputs = (hidden_BTD, head.weight, head.bias)
    logits_NV = head(hidden_BTD).flatten(0, 1)
    squares = torch.logsumexp(logits_NV[labels_BT.flatten() != UNSCORED], -1).square().sum()
    entropy = F.cross_entropy(logits_NV, labels_BT.flatten(), ignore_index=UNSCORED, reduction="sum")
    expected = torch.autograd.grad((entropy + 0.2 * squares) / 7, inputs)
    result = summed_loss(head, hidden_BTD, labels_BT, z_loss=0.2)
    torch.testing.assert_close(result.cross_entropy, entropy.detach())
    torch.testing.assert_close(torch.autograd.grad(result.objective / 7, inputs), expected)


def test_positions_without_a_label_get_no_gradient() -> None:
    head, hidden_BTD, labels_BT = some_batch()
    hidden_BTD.requires_grad_()
    summed_loss(head, hidden_BTD, labels_BT, z_loss=1e-4).objective.backward()
    assert torch.equal(hidden_BTD.grad.abs().sum(-1) > 0, labels_BT != UNSCORED)


def test_large_logits_neither_overflow_nor_vanish() -> None:
    head, hidden_BTD, labels_BT = some_batch()
    with torch.no_grad():
        head.weight.mul_(2000)
    result = summed_loss(head, hidden_BTD, labels_BT)
    expected = F.cross_entropy(head(hidden_BTD).flatten(0, 1), labels_BT.flatten(), reduction="sum")
    torch.testing.assert_close(result.cross_entropy, expected.detach())


def test_a_batch_without_labels_costs_nothing_and_moves_nothing() -> None:
    head, hidden_BTD, labels_BT = some_batch()
    result = summed_loss(head, hidden_BTD, torch.full_like(labels_BT, UNSCORED), z_loss=1e-4)
    result.objective.backward()
    assert (result.objective.item(), head.weight.grad.abs().sum().item()) == (0.0, 0.0)


def test_bf16_products_stay_within_their_rounding_of_fp32() -> None:
    head, hidden_BTD, labels_BT = some_batch()
    exact = summed_loss(head, hidden_BTD, labels_BT, z_loss=1e-4)
    exact.objective.backward()
    expected, head.weight.grad = head.weight.grad, None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = summed_loss(head, hidden_BTD, labels_BT, z_loss=1e-4)
    rounded.objective.backward()
    assert rounded.objective.dtype == head.weight.grad.dtype == torch.float32
    assert 0 < abs(rounded.cross_entropy - exact.cross_entropy) < 2e-2 * exact.cross_entropy
    torch.testing.assert_close(head.weight.grad, expected, rtol=0.05, atol=0.05)
