"""Who may see whom: attention masks as plain data, built alike by training, evaluation and serving.

One rule covers them all. The query at position i may see the key at position j if and only if both lie
in the same segment, and j <= i or j belongs to the prompt. A segment is a document of a packed row;
padding is segment 0, which sees padding alone and so never yields the NaN of a query that sees nothing.
A row may also fork: several branches continue one trunk, see it and themselves, and not one another.

Letters: B rows, T positions, P positions up to the longest prompt.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from headrace.errors import MismatchError

Parts: TypeAlias = tuple[Tensor | None, Tensor | None, Tensor | None]
"""Prompts, segments and branches (B or 1, T); None where a mask has none."""


class Rule(NamedTuple):
    """A mask as a function, for kernels that ask pair by pair."""

    sees: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    """Given row, head, query and key, integers of shapes that go together: whether the query may see the key."""
    device: torch.device


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """What attention may see, in terms of a batch rather than of a matrix."""

    prefix_BT: Tensor | None = None
    """True where a token belongs to a prompt and is seen from everywhere in its segment, bool. Positions it
    does not reach are no prompt; None is no prompt anywhere."""

    segments_BT: Tensor | None = None
    """Number of the document each token belongs to, any integer type, 0 for padding; None is one per row."""

    branches_BT: Tensor | None = None
    """Number of the branch each token belongs to, any integer type, 0 for the trunk; None is the trunk alone."""

    positions_BT: Tensor | None = None
    """Tokens each token comes after, int64, where that is not its place in the row: in branches."""

    def dense(self, tokens: int) -> Tensor | None:
        """Write the rule out for rows of `tokens` positions.

        Returns:
            Bool B1TT, True where the query (third axis) may see the key (fourth), with a first axis of 1 where
            all rows agree; or None where the rule is plainly causal, for which attention needs no matrix.

        Raises:
            MismatchError: The mask was built for rows of another length.
        """
        parts = self._parts(tokens)
        if parts is None:
            return None
        device = next(part.device for part in parts if part is not None)
        earlier_1TT = torch.ones(1, tokens, tokens, dtype=torch.bool, device=device).tril()
        seen_BTT = _seen(earlier_1TT, parts, lambda part_BT: part_BT[:, :, None], lambda part_BT: part_BT[:, None, :])
        return seen_BTT[:, None]

    def rule(self, rows: int, tokens: int) -> Rule | None:
        """Say by pairs what `dense` writes out; None, too, where the rule is plainly causal.

        Raises:
            MismatchError: The mask was built for rows of another length.
        """
        parts = self._parts(tokens)
        if parts is None:
            return None
        prefix_BT, segments_BT, branches_BT = (None if part is None else part.expand(rows, -1) for part in parts)

        def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            whole = (prefix_BT, segments_BT, branches_BT)
            return _seen(key <= query, whole, lambda part_BT: part_BT[row, query], lambda part_BT: part_BT[row, key])

        return Rule(sees, next(part.device for part in parts if part is not None))

    def to(self, device: torch.device | str) -> "Mask":
        """The same mask on another device."""
        parts = (self.prefix_BT, self.segments_BT, self.branches_BT, self.positions_BT)
        return Mask(*(None if part is None else part.to(device) for part in parts))

    def _fit(self, tokens: int) -> None:
        """Refuse rows of another length; a prompt may end early, segments and branches cover every position."""
        for name, part in (("segments", self.segments_BT), ("branches", self.branches_BT)):
            if part is not None and part.shape[1] != tokens:
                raise MismatchError(
                    f"The mask has {name} for {part.shape[1]} positions and the batch has {tokens}. "
                    "Build both from the same rows."
                )
        if self.prefix_BT is not None and self.prefix_BT.shape[1] > tokens:
            raise MismatchError(
                f"The mask has a prompt of {self.prefix_BT.shape[1]} positions and the batch has {tokens}. "
                "Build both from the same rows."
            )

    def _parts(self, tokens: int) -> Parts | None:
        """What the mask says of rows of `tokens` positions; None where that is plainly causal.

        Raises:
            MismatchError: The mask was built for rows of another length.
        """
        self._fit(tokens)
        prefix_BT, segments_BT = self._telling()
        if prefix_BT is not None:
            prefix_BT = torch.nn.functional.pad(prefix_BT, (0, tokens - prefix_BT.shape[1]))
        parts = (prefix_BT, segments_BT, self.branches_BT)
        return None if all(part is None for part in parts) else parts

    def _telling(self) -> tuple[Tensor | None, Tensor | None]:
        """Leave out a part that says nothing: no prompt anywhere, or one segment throughout each row."""
        prefix_BT, segments_BT = self.prefix_BT, self.segments_BT
        # Looking at values would make XLA compile a second graph. A GPU is waited for, as copying a batch to it does.
        if prefix_BT is not None and prefix_BT.device.type != "xla" and not prefix_BT.any():
            prefix_BT = None
        if segments_BT is not None and segments_BT.device.type != "xla" and (segments_BT == segments_BT[:, :1]).all():
            segments_BT = None
        return prefix_BT, segments_BT


def _seen(
    earlier: Tensor, parts: Parts, at_query: Callable[[Tensor], Tensor], at_key: Callable[[Tensor], Tensor]
) -> Tensor:
    """The one rule: which keys are seen, given which come no later, and how a part is looked up at queries and keys."""
    prefix_BT, segments_BT, branches_BT = parts
    seen = earlier
    if prefix_BT is not None:
        seen = seen | at_key(prefix_BT)
    if segments_BT is not None:
        seen = seen & (at_query(segments_BT) == at_key(segments_BT))
    if branches_BT is not None:
        one, other = at_query(branches_BT), at_key(branches_BT)
        seen = seen & ((other == 0) | (other == one))
    return seen


def as_bias(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a key is seen and -inf elsewhere: given booleans, attention would convert them anew in each layer."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)


def causal() -> Mask:
    """Each token sees itself and what came before it."""
    return Mask()


def prefix_lm(prefix_lengths_B: Sequence[int] | Tensor) -> Mask:
    """The first `prefix_lengths_B[b]` tokens of row b are a prompt, seen whole by all; the rest is causal."""
    lengths_B = torch.as_tensor(prefix_lengths_B, dtype=torch.int64)
    positions_P = torch.arange(int(lengths_B.max()), device=lengths_B.device)
    return Mask(prefix_BT=positions_P < lengths_B[:, None])


def packed_causal(segments_BT: Tensor) -> Mask:
    """Documents packed into rows, causal each and blind to one another."""
    return Mask(segments_BT=segments_BT)


def packed_prefix_lm(segments_BT: Tensor, prefix_BT: Tensor) -> Mask:
    """Documents packed into rows, blind to one another; within each, `prefix_BT` marks the prompt.

    Raises:
        MismatchError: The two tensors have different shapes.
    """
    if segments_BT.shape != prefix_BT.shape:
        raise MismatchError(
            f"segments_BT has shape {tuple(segments_BT.shape)} and prefix_BT {tuple(prefix_BT.shape)}. "
            "Give both one value per token."
        )
    return Mask(prefix_BT=prefix_BT.bool(), segments_BT=segments_BT)


def forked(trunks_B: Sequence[int], branches: Sequence[Sequence[int]], *, prompt: bool) -> Mask:
    """Rows that fork: row b is a trunk of `trunks_B[b]` tokens, then branches of the lengths `branches[b]`.

    What comes after the last branch is padding: a branch of its own, which nothing else sees.

    Args:
        trunks_B: Tokens of each trunk.
        branches: Tokens of each branch of each row; a branch may be empty.
        prompt: Whether the trunk is a prompt, seen whole by all; causal otherwise.
    """
    tokens = max(trunk + sum(lengths) for trunk, lengths in zip(trunks_B, branches, strict=True))
    branches_BT = torch.full((len(trunks_B), tokens), -1, dtype=torch.int32)
    positions_BT = torch.zeros(len(trunks_B), tokens, dtype=torch.int64)
    for row, (trunk, lengths) in enumerate(zip(trunks_B, branches, strict=True)):
        stops = list(itertools.accumulate(lengths, initial=trunk))
        for number, (start, stop) in enumerate(itertools.pairwise([0, *stops])):
            branches_BT[row, start:stop] = number
            positions_BT[row, start:stop] = torch.arange(stop - start) + (trunk if number else 0)
    forks = any(len(lengths) > 1 for lengths in branches)
    prefix_BT = prefix_lm(trunks_B).prefix_BT if prompt else None
    return Mask(prefix_BT, None, branches_BT if forks else None, positions_BT if forks else None)
