"""Accelerators as their makers publish them; nothing here was measured by this project.

Where a figure was not published it is None. Prices are list prices, to be overridden by whoever knows better.

Sources: NVIDIA's data sheets of H100, H200, A100 and L4; docs.cloud.google.com/tpu/docs/{v3,v5e,v5p,v6e}; TPU v4 and
the links of v3: arXiv:2304.01433.
"""

from dataclasses import dataclass
from typing import Literal

from headrace.peaks import BF16_FLOPS

GIB = 2**30
GPU_PRICES = "Google Cloud's on-demand list, us-central1, as known in 2025, machine included; not checked since"
TPU_PRICES = "Google Cloud's on-demand list, us-central1 (v4: us-central2), as known in 2025; not checked since"
CHECKED_PRICES = "SkyPilot's catalog v8 of Google Cloud, on demand, us-central1, 2026"
ASSUMED_UTILIZATION = 0.40
"""Where nobody published a run of this kind."""
ASSUMED = "assumed: no published run of a model like this was found"


@dataclass(frozen=True, kw_only=True, slots=True)
class Accelerator:
    """One device that a process drives."""

    title: str
    kind: Literal["cuda", "xla"]
    memory_gib: float
    bf16_flops: float
    """Dense bf16 products a second at most."""
    fp32_flops: float | None
    """fp32 products a second at most, tensor cores left out; None where unpublished."""
    link_bytes_per_second: float
    """To the other devices of the slice, one way, all links together."""
    dollars_per_hour: float | None
    price_source: str
    utilization: float = ASSUMED_UTILIZATION
    """Share of the peak that is reached over a whole step, communication included. What is computed again for
    checkpointing counts, so that a run without it has this for its model FLOPs utilization."""
    utilization_source: str = ASSUMED


H100 = Accelerator(
    title="NVIDIA H100 SXM 80 GB",
    kind="cuda",
    memory_gib=80,
    bf16_flops=BF16_FLOPS["H100"],
    fp32_flops=67e12,
    link_bytes_per_second=450e9,
    dollars_per_hour=11.06,
    price_source=GPU_PRICES,
    utilization=0.46,
    utilization_source="llm-foundry's table, MPT-7B at 2048 tokens on 8 H100",
)
H200 = Accelerator(
    title="NVIDIA H200 SXM 141 GB",
    kind="cuda",
    memory_gib=141,
    bf16_flops=BF16_FLOPS["H200"],
    fp32_flops=67e12,
    link_bytes_per_second=450e9,
    dollars_per_hour=10.60,
    price_source=GPU_PRICES,
    utilization=0.46,
    utilization_source="that of H100, whose processor it has",
)
A100 = Accelerator(
    title="NVIDIA A100 SXM 80 GB",
    kind="cuda",
    memory_gib=80,
    bf16_flops=BF16_FLOPS["A100"],
    fp32_flops=19.5e12,
    link_bytes_per_second=300e9,
    dollars_per_hour=5.07,
    price_source=GPU_PRICES,
    utilization=0.64,
    utilization_source="llm-foundry's table, MPT-7B at 2048 tokens on 8 A100",
)
L4 = Accelerator(
    title="NVIDIA L4 24 GB",
    kind="cuda",
    memory_gib=24,
    bf16_flops=BF16_FLOPS["L4"],
    fp32_flops=30.3e12,
    link_bytes_per_second=32e9,
    dollars_per_hour=0.71,
    price_source=GPU_PRICES,
)
V3_CORE = Accelerator(
    title="TPU v3 core",
    kind="xla",
    memory_gib=16,
    bf16_flops=61.5e12,
    fp32_flops=None,
    link_bytes_per_second=140e9,
    dollars_per_hour=1.00,
    price_source=TPU_PRICES,
    utilization=0.48,
    utilization_source="GPT-J itself: 150,000 tokens/s on a v3-256, every layer computed twice",
)
V4 = Accelerator(
    title="TPU v4 chip",
    kind="xla",
    memory_gib=32,
    bf16_flops=275e12,
    fp32_flops=None,
    link_bytes_per_second=300e9,
    dollars_per_hour=3.22,
    price_source=TPU_PRICES,
    utilization=0.58,
    utilization_source="PaLM 540B on v4, rematerialization counted, arXiv:2204.02311",
)
V5E = Accelerator(
    title="TPU v5e chip",
    kind="xla",
    memory_gib=16,
    bf16_flops=197e12,
    fp32_flops=None,
    link_bytes_per_second=200e9,
    dollars_per_hour=1.20,
    price_source=TPU_PRICES,
)
V5P = Accelerator(
    title="TPU v5p chip",
    kind="xla",
    memory_gib=95,
    bf16_flops=459e12,
    fp32_flops=None,
    link_bytes_per_second=600e9,
    dollars_per_hour=4.20,
    price_source=CHECKED_PRICES,
    utilization=0.65,
    utilization_source="MaxText's table, Llama 2 70B on 512 chips",
)
V6E = Accelerator(
    title="TPU v6e chip",
    kind="xla",
    memory_gib=32,
    bf16_flops=918e12,
    fp32_flops=None,
    link_bytes_per_second=400e9,
    dollars_per_hour=2.70,
    price_source=CHECKED_PRICES,
    utilization=0.45,
    utilization_source="MaxText's table, Llama 3.1 8B on 256 chips",
)
