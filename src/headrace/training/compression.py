"""A vector as a short message: its largest entries, each in a few bits.

A message holds a bit for every entry, which says whether it is sent, a scale of two bytes for every bucket of
those sent, and `bits` for each of them. Its length follows from the vector's length alone, so that messages of
different workers can be gathered without asking for their sizes first.

Source: Wang et al. 2023, CocktailSGD, whose random subset is taken by whoever calls (`offered`).

Letters: N entries of a vector, K of them sent, C buckets of at most E entries.
"""

import random

import torch
from torch import Tensor
from torch.nn import functional as F

from headrace.training.averaging import CompressionConfig


def offered(exchange: int, one_in: int, seed: int) -> int:
    """First entry that an exchange, counted from 0, offers; the others follow at distances of `one_in`.

    Any `one_in` exchanges from a multiple of it on offer every entry once, in an order drawn from the seed.
    """
    order = list(range(one_in))
    random.Random(f"{seed}/{exchange // one_in}").shuffle(order)
    return order[exchange % one_in]


def sent_entries(length: int, config: CompressionConfig) -> int:
    """Entries of a vector of `length` that a message holds: at least one."""
    return min(length, max(1, int(config.top_share * length)))


def message_bytes(length: int, config: CompressionConfig) -> int:
    """Exact length of the message for a vector of `length` entries."""
    kept = sent_entries(length, config)
    return _ceil(length, 8) + 2 * _ceil(kept, config.bucket) + _ceil(kept * config.bits, 8)


def compress(vector_N: Tensor, config: CompressionConfig, generator: torch.Generator | None = None) -> Tensor:
    """Encode the largest entries of a vector.

    Args:
        vector_N: Floats.
        config: How many entries, and in how many bits.
        generator: Draws the rounding where `config.stochastic`; an entry that is sent then arrives as itself
            in the mean over draws.

    Returns:
        The message, uint8.
    """
    kept_K = vector_N.abs().topk(sent_entries(len(vector_N), config), sorted=False).indices
    is_sent_N = torch.zeros(len(vector_N), dtype=torch.bool, device=vector_N.device)
    is_sent_N[kept_K] = True
    values_CE = _in_buckets(vector_N[is_sent_N].float(), config.bucket)
    scales_C = _rounded_up(values_CE.abs().amax(1))
    levels = 2 ** (config.bits - 1) - 1
    exact_CE = values_CE / scales_C.float().clamp(min=torch.finfo(torch.float32).tiny)[:, None] * levels
    if config.stochastic:
        exact_CE = (exact_CE + torch.rand(exact_CE.shape, generator=generator, device=exact_CE.device)).floor()
    codes_K = (exact_CE.round().clamp(-levels, levels) + levels).to(torch.uint8).flatten()[: len(kept_K)]
    return torch.cat((_pack(is_sent_N.to(torch.uint8), 1), scales_C.view(torch.uint8), _pack(codes_K, config.bits)))


def decompress(message: Tensor, length: int, config: CompressionConfig) -> Tensor:
    """Decode what `compress` made of a vector of `length` entries: those not sent are 0; fp32."""
    kept, mask_bytes = sent_entries(length, config), _ceil(length, 8)
    scale_bytes = 2 * _ceil(kept, config.bucket)
    mask, scales, codes = message.split((mask_bytes, scale_bytes, len(message) - mask_bytes - scale_bytes))
    levels = 2 ** (config.bits - 1) - 1
    # A slice of a message may lie at an odd address, where two-byte numbers cannot be seen.
    scales_C = scales.clone().view(torch.bfloat16).float()
    values_CE = _in_buckets(_unpack(codes, config.bits)[:kept].float() - levels, config.bucket)
    vector_N = torch.zeros(length, device=message.device)
    vector_N[_unpack(mask, 1)[:length].bool()] = (values_CE / levels * scales_C[:, None]).flatten()[:kept]
    return vector_N


def _in_buckets(values_K: Tensor, bucket: int) -> Tensor:
    """Rows of `bucket` values, the last one filled up with zeros."""
    missing = -len(values_K) % bucket
    return F.pad(values_K, (0, missing)).view(-1, bucket)


def _rounded_up(scales_C: Tensor) -> Tensor:
    """As bfloat16, no smaller than it was: a scale below the largest value would cut it off."""
    rounded_C = scales_C.bfloat16()
    larger_C = (rounded_C.view(torch.int16) + 1).view(torch.bfloat16)
    return torch.where(rounded_C.float() < scales_C, larger_C, rounded_C)


def _pack(codes: Tensor, bits: int) -> Tensor:
    """Codes of `bits` each, side by side in bytes, the first in the lowest bits."""
    per_byte = 8 // bits
    padded = F.pad(codes, (0, -len(codes) % per_byte)).view(-1, per_byte)
    shifts = torch.arange(per_byte, dtype=torch.uint8, device=codes.device) * bits
    return (padded << shifts).sum(1, dtype=torch.uint8)


def _unpack(packed: Tensor, bits: int) -> Tensor:
    """The codes that `_pack` was given, and zeros that it added."""
    shifts = torch.arange(8 // bits, dtype=torch.uint8, device=packed.device) * bits
    codes: Tensor = (packed[:, None] >> shifts) & (2**bits - 1)
    return codes.flatten()


def _ceil(number: int, of: int) -> int:
    return -(-number // of)
