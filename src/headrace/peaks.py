"""What a device can do at most: products a second, against which a run's own are held.

Of accelerators it is what their makers publish, dense, without sparsity. A CPU's is measured, for nobody publishes it.

Sources: NVIDIA's data sheets of H100, H200, GH200, A100 and L4; docs.cloud.google.com/tpu/docs/{v3,v5e,v5p,v6e};
TPU v4: arXiv:2304.01433.
"""

import re
import time
from functools import lru_cache

import torch

BF16_FLOPS = {
    "H100": 989e12,
    "H200": 989e12,
    "GH200": 989e12,
    "A100": 312e12,
    "L4": 121e12,
}
"""By a word of the name that CUDA gives the device: `L4`, which `L40S` is not."""
SLOWER = {"PCIe", "NVL"}
"""Words of the names of cards of the same processor that reach less, and that no table here has."""
SIZE, ROUNDS = 1024, 6
"""Rows and columns of the product that a CPU is measured by, and how often it is taken."""


def published(name: str) -> float | None:
    """bf16 FLOP/s of an accelerator; None where no table here has it."""
    words = set(re.split(r"[\s-]", name))
    return None if words & SLOWER else next((flops for word, flops in BF16_FLOPS.items() if word in words), None)


@lru_cache
def measured_cpu(dtype: torch.dtype) -> float:
    """FLOP/s of a product of square matrices on this process's cores: the best of a few, about 0.1 s."""
    return 2 * SIZE**3 / min(product_seconds(dtype, ROUNDS))


def product_seconds(dtype: torch.dtype, rounds: int) -> list[float]:
    """Times of products of matrices of `SIZE` by `SIZE` on this process's cores."""
    (left, right), seconds = torch.ones(2, SIZE, SIZE, dtype=dtype), []
    for _ in range(rounds):
        began = time.perf_counter()
        torch.mm(left, right)
        seconds.append(time.perf_counter() - began)
    return seconds
