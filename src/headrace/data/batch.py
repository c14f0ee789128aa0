"""One batch as the model and the loss see it: tokens, labels, segments and the prompt.

Shape letters: B rows, T positions of a row (the context).
"""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

UNSCORED = -100
"""Label of a position the loss leaves out; also the default `ignore_index` of `cross_entropy`."""


@dataclass(frozen=True, slots=True)
class TensorBatch:
    """A `Batch` as torch tensors."""

    tokens_BT: "torch.Tensor"
    labels_BT: "torch.Tensor"
    segments_BT: "torch.Tensor"
    prefix_BT: "torch.Tensor"

    def rows(self, start: int, stop: int) -> "TensorBatch":
        """Rows `start` to `stop`, as views."""
        cut = slice(start, stop)
        return TensorBatch(self.tokens_BT[cut], self.labels_BT[cut], self.segments_BT[cut], self.prefix_BT[cut])

    def to(self, device: "torch.device") -> "TensorBatch":
        """The same batch on a device; the very same where it is there already."""
        return TensorBatch(*(tensor.to(device) for tensor in self.tensors()))

    def tensors(self) -> "tuple[torch.Tensor, ...]":
        """All four, each with rows first."""
        return self.tokens_BT, self.labels_BT, self.segments_BT, self.prefix_BT


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of packed documents; labels are shifted already."""

    tokens_BT: npt.NDArray[np.int64]
    """What the model reads; 0 on padding, where `segments_BT` is 0."""
    labels_BT: npt.NDArray[np.int64]
    """The token each position is to predict, or `UNSCORED`."""
    segments_BT: npt.NDArray[np.int32]
    """Which document of its row a position belongs to, from 1; 0 is padding."""
    prefix_BT: npt.NDArray[np.bool_]
    """True on a prompt, which a prefix mask shows to its whole document."""

    def rows(self, start: int, stop: int) -> "Batch":
        """Rows `start` to `stop`, as views."""
        cut = slice(start, stop)
        return Batch(self.tokens_BT[cut], self.labels_BT[cut], self.segments_BT[cut], self.prefix_BT[cut])

    def reshape(self, rows: int, context_tokens: int) -> "Batch":
        """The same positions, row after row, in rows of another length."""
        shape = (rows, context_tokens)
        return Batch(
            self.tokens_BT.reshape(shape),
            self.labels_BT.reshape(shape),
            self.segments_BT.reshape(shape),
            self.prefix_BT.reshape(shape),
        )

    def scored(self) -> int:
        """Labels the loss counts."""
        return int(np.count_nonzero(self.labels_BT != UNSCORED))

    def filled(self) -> int:
        """Positions that are not padding."""
        return int(np.count_nonzero(self.segments_BT))

    def torch(self) -> TensorBatch:
        """The same batch as tensors that share its memory."""
        from torch import from_numpy

        return TensorBatch(
            from_numpy(self.tokens_BT),
            from_numpy(self.labels_BT),
            from_numpy(self.segments_BT),
            from_numpy(self.prefix_BT),
        )


def gather(parts: "list[tuple[npt.NDArray[np.int64], Batch]]") -> Batch:
    """Rows of several batches as one, given the numbers that each gets, ascending; every number occurs once.

    A single part is the whole and is not copied.
    """
    if len(parts) == 1:
        return parts[0][1]
    first = parts[0][1]
    shape = (sum(len(order_B) for order_B, _ in parts), first.tokens_BT.shape[1])
    made = Batch(*(np.empty(shape, getattr(first, each.name).dtype) for each in fields(Batch)))
    for each in fields(Batch):
        for order_B, batch in parts:
            getattr(made, each.name)[order_B] = getattr(batch, each.name)
    return made
