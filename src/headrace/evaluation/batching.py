"""What is read together: batches of similar length, sized by their tokens."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Size(NamedTuple):
    """Room that something takes in a batch."""

    read: int
    """Tokens read at first."""
    new: int = 0
    """Tokens that follow them."""


def batches(
    sizes: Sequence[Size], max_tokens: int, *, padded: bool = True, context_tokens: int | None = None
) -> Iterator[list[int]]:
    """Group indices by length, longest first, into batches that fit the limits, or hold one index.

    Args:
        sizes: Room that each index takes.
        max_tokens: Of a batch.
        padded: Whether all of a batch take the room of the widest; their own otherwise.
        context_tokens: Most tokens of a row, its new ones included.
    """
    batch: list[int] = []
    widest, held = Size(0), 0
    for index in sorted(range(len(sizes)), key=lambda i: -sum(sizes[i])):
        size = sizes[index]
        grown, taken = Size(*map(max, widest, size)), held + sum(size)
        room = (len(batch) + 1) * sum(grown) if padded else taken
        if batch and (room > max_tokens or (context_tokens is not None and sum(grown) > context_tokens)):
            yield batch
            batch, grown, taken = [], size, sum(size)
        batch.append(index)
        widest, held = grown, taken
    if batch:
        yield batch
