"""Keys and values of what a batch has read, so that each new token costs one position of work.

Rows may differ in length. A batch of prompts is padded on the right and read at once; `trim` then
forgets the padding, whose places the generated tokens take over, row by row.

Letters: B rows, T new positions, S positions held and new, H heads, K head width.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from headrace.errors import MismatchError
from headrace.models.masks import Mask


class Shape(Protocol):
    """What a cache needs to know of a model; `GPTJConfig` has it."""

    @property
    def n_layer(self) -> int: ...  # noqa: D102
    @property
    def n_head(self) -> int: ...  # noqa: D102
    @property
    def head_dim(self) -> int: ...  # noqa: D102


class KVCache:
    """Room for `capacity_tokens` positions of `rows` rows in every layer, allocated once."""

    def __init__(
        self,
        config: Shape,
        rows: int,
        capacity_tokens: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        shape = (config.n_layer, 2, rows, capacity_tokens, config.n_head, config.head_dim)
        # Zeros and not whatever lay there: a hidden value counts for 0 times itself, and 0 x NaN is NaN.
        self.kv = torch.zeros(shape, device=device, dtype=dtype)
        self.lengths = [0] * rows
        """Positions each row holds."""

    @property
    def longest(self) -> int:
        """Positions the longest row holds."""
        return max(self.lengths, default=0)

    def positions(self, new: int) -> Tensor:
        """Positions the next `new` tokens of each row take: int64 BT."""
        return self._lengths_B()[:, None] + torch.arange(new, device=self.kv.device)

    def seen(self, new: int, mask: Mask | None) -> Tensor | None:
        """What the next `new` tokens may see: bool (B or 1, 1, T, S), None where that needs no hiding.

        Raises:
            MismatchError: No room is left, or a mask is given for tokens that continue a row.
        """
        capacity = self.kv.shape[3]
        if self.longest + new > capacity:
            raise MismatchError(
                f"{self.longest + new:,} tokens exceed the cache's {capacity:,}. Allocate it with a larger capacity."
            )
        if self.longest == 0:
            return (mask or Mask()).dense(new)
        if mask is not None:
            raise MismatchError(
                f"A mask was given for tokens after the first {self.longest:,}. A mask is for a prompt read whole: "
                "start from an empty cache, or give none."
            )
        if new == 1 and min(self.lengths) == self.longest:
            return None
        held_S = torch.arange(self.longest + new, device=self.kv.device)
        return (held_S <= self.positions(new)[:, :, None])[:, None]

    def write(self, layer: int, k_BTHK: Tensor, v_BTHK: Tensor, positions_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new keys and values of one layer, without gradients; return all it holds as views of BSHK."""
        keys, values = self.kv[layer, 0], self.kv[layer, 1]
        rows_B1 = torch.arange(len(self.lengths), device=self.kv.device)[:, None]
        keys[rows_B1, positions_BT] = k_BTHK.detach().to(keys.dtype)
        values[rows_B1, positions_BT] = v_BTHK.detach().to(values.dtype)
        held = self.longest + k_BTHK.shape[1]
        return keys[:, :held], values[:, :held]

    def advance(self, new: int) -> None:
        """Count `new` more positions in every row, after all layers have written them."""
        self.lengths = [length + new for length in self.lengths]

    def trim(self, lengths: Sequence[int]) -> None:
        """Forget what each row holds beyond its length, such as the padding of a batch of prompts."""
        self.lengths = [min(length, held) for length, held in zip(lengths, self.lengths, strict=True)]

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows alone, in this order; the others are finished."""
        self.kv = self.kv[:, :, list(rows)]
        self.lengths = [self.lengths[row] for row in rows]

    def _lengths_B(self) -> Tensor:
        return torch.tensor(self.lengths, dtype=torch.int64, device=self.kv.device)
