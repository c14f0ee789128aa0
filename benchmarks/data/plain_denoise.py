"""A plain collator, one example at a time in Python lists, as T5-style training scripts write it.

It is what the vectorised loader is compared with: for its distribution in tests, for its speed in
`benchmarks.data.loader`. It shares no code with it.
"""

import random
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

Row = tuple[list[int], list[int], list[int], list[bool]]
UNSCORED = -100


class PlainCollator:
    """Cuts, denoises and packs documents.

    Args:
        denoisers: Share, mode token, mean span (0 hides the end) and rate of each.
        sentinels: Their ids in order.
    """

    def __init__(
        self,
        denoisers: list[tuple[float, int, float, float]],
        sentinels: range,
        eos_id: int,
        context: int,
        seed: int = 0,
    ) -> None:
        self.denoisers, self.sentinels, self.eos_id, self.context = denoisers, sentinels, eos_id, context
        self.random = random.Random(seed)
        densest = max(rate / span for _, _, span, rate in denoisers if span)
        self.piece = min(context // 2, int(len(sentinels) / densest) - 1)

    def choose(self) -> tuple[float, int, float, float]:
        """A denoiser by its share: share, mode token, mean span in tokens (0 continues the text), rate."""
        return self.random.choices(self.denoisers, [share for share, *_ in self.denoisers])[0]

    def continued(self, text: list[int], mode: int, rate: float) -> tuple[list[int], list[int]]:
        """Hide an end of random length, `rate` of the text on average."""
        hidden = self.random.randint(1, max(1, round(2 * rate * len(text)) - 1))
        return [mode, *text[:-hidden]], text[-hidden:]

    def corrupted(self, text: list[int], mode: int, span: float, rate: float) -> tuple[list[int], list[int]]:
        """Hide random spans."""
        hidden = min(max(1, round(len(text) * rate)), len(text) - 1)
        spans = min(max(1, round(hidden / span)), hidden, len(text) - hidden + 1)
        inputs, targets, at = [mode], [], 0
        for number, (gap, length) in enumerate(self._runs(len(text), hidden, spans)):
            inputs += [*text[at : at + gap], self.sentinels[number]]
            targets += [self.sentinels[number], *text[at + gap : at + gap + length]]
            at += gap + length
        return inputs + text[at:], [*targets, self.eos_id]

    def _runs(self, length: int, hidden: int, spans: int) -> Iterator[tuple[int, int]]:
        """Gap before each span and its length; inner gaps hold a token or more."""
        gaps = self._parts(length - hidden + 2, spans + 1)
        gaps[0] -= 1
        return zip(gaps, self._parts(hidden, spans), strict=False)

    def _parts(self, total: int, parts: int) -> list[int]:
        """A total as so many positive parts, any way of breaking it equally likely."""
        edges = sorted(self.random.sample(range(1, total), parts - 1))
        return [b - a for a, b in zip([0, *edges], [*edges, total], strict=True)]

    def example(self, text: list[int]) -> tuple[list[int], list[int]]:
        """Inputs and targets of one piece of text."""
        _, mode, span, rate = self.choose()
        if span and len(text) >= 8:
            return self.corrupted(text, mode, span, rate)
        return self.continued(text, self.denoisers[0][1], self.denoisers[0][3])

    def rows(self, texts: Iterable[list[int]]) -> Iterator[Row]:
        """Tokens, labels, segments and prompt flags of rows filled first come, first served."""
        tokens: list[int] = []
        labels: list[int] = []
        segments: list[int] = []
        prefix: list[bool] = []
        for text in texts:
            for start in range(0, len(text), self.piece):
                piece = text[start : start + self.piece]
                if len(piece) < 2:
                    continue
                inputs, targets = self.example(piece)
                whole = (inputs + targets)[: self.context + 1]
                if len(tokens) + len(whole) - 1 > self.context:
                    yield self._padded(tokens, labels, segments, prefix)
                    tokens, labels, segments, prefix = [], [], [], []
                segment = segments[-1] + 1 if segments else 1
                for position in range(len(whole) - 1):
                    tokens.append(whole[position])
                    labels.append(whole[position + 1] if position >= len(inputs) - 1 else UNSCORED)
                    segments.append(segment)
                    prefix.append(position < len(inputs))

    def _padded(self, tokens: list[int], labels: list[int], segments: list[int], prefix: list[bool]) -> Row:
        room = self.context - len(tokens)
        return tokens + [0] * room, labels + [UNSCORED] * room, segments + [0] * room, prefix + [False] * room

    def batches(self, texts: Iterable[list[int]], rows: int) -> Iterator[list[npt.NDArray[np.int64]]]:
        """Tokens, labels, segments and prompt flags of that many rows, as arrays."""
        taken: list[Row] = []
        for row in self.rows(texts):
            taken.append(row)
            if len(taken) == rows:
                yield [np.array(column) for column in zip(*taken, strict=True)]
                taken = []
