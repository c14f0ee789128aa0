from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from headrace.errors import ConfigError
from headrace.models import recompute
from headrace.models.gptj import GPTJ, GPTJConfig

SMALL = GPTJConfig(vocab_size=61, n_layer=3, d_model=48, n_head=3, d_ff=80, rotary_dim=6, context_tokens=32)


class Operations(TorchDispatchMode):
    """Counts what is computed, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def gradients(policy: recompute.Recompute) -> tuple[list[torch.Tensor], Counter[str]]:
    """Of every weight, and what the backward pass computed."""
    torch.manual_seed(0)
    model = GPTJ(SMALL)
    model.recompute = policy
    tokens_BT = torch.randint(61, (2, 32))
    loss = model(tokens_BT).float().square().mean()
    with Operations() as backward:
        loss.backward()
    return [p.grad for p in model.parameters() if p.grad is not None], backward.seen


@pytest.mark.parametrize(
    ("policy", "gelus", "attentions"), [("none", 0, 0), ("layers", SMALL.n_layer, SMALL.n_layer), ("selective", 3, 0)]
)
def test_a_policy_repeats_what_it_says_and_changes_no_gradient(policy, gelus: int, attentions: int) -> None:
    kept, _ = gradients("none")
    repeated, seen = gradients(policy)
    assert all(torch.equal(one, other) for one, other in zip(kept, repeated, strict=True))
    assert seen["gelu"] == gelus
    assert sum(seen[name] for name in recompute.KEPT if "attention" in name) == attentions


def test_nothing_is_repeated_where_no_gradient_is_wanted() -> None:
    model = GPTJ(SMALL)
    model.recompute = "layers"
    with torch.no_grad():
        assert model(torch.zeros(1, 8, dtype=torch.int64)).isfinite().all()


def test_a_policy_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(recompute.VARIABLE, "selectiv")
    with pytest.raises(ConfigError, match=r"HEADRACE_RECOMPUTE='selectiv' is no policy\. Did you mean 'selective'"):
        recompute.asked()
