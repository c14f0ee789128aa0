"""What a layer keeps for its backward pass, and what it computes a second time instead.

Activations are most of what training holds besides weights. A layer that keeps its input alone takes about a third
more time; one that keeps the results of its products and of attention too repeats only what is cheap (norm,
rotation, GELU). What is computed is the same either way, so that this is a matter of where a run takes place.

Source: Chen et al. 2016, arXiv:1604.06174; the selection is that of Korthikanti et al. 2022, arXiv:2205.05198, turned
around: products and attention are kept.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, cast, get_args

import torch
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from headrace import config

Recompute = Literal["none", "layers", "selective"]

VARIABLE = "HEADRACE_RECOMPUTE"
KEPT = (
    "mm",
    "addmm",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
)
"""Operations that cost more to repeat than to keep."""


def asked() -> Recompute:
    """The policy that the environment names; `none` where it names none.

    Raises:
        ConfigError: There is no such policy.
    """
    return cast(Recompute, config.asked(VARIABLE, get_args(Recompute), "none", "policy"))


def keeping(policy: Recompute, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of tensors, keeping for its backward pass what the policy says."""
    if policy == "none" or not torch.is_grad_enabled():
        return function(*arguments)
    options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}  # nothing here is drawn
    if policy == "selective":
        options["context_fn"] = functools.partial(create_selective_checkpoint_contexts, _kept())
    return checkpoint(function, *arguments, **options)


def _kept() -> list[Any]:
    return [getattr(torch.ops.aten, name).default for name in KEPT if hasattr(torch.ops.aten, name)]
