"""From token ids to text that may leave the server: whole characters, and nothing of a stop string."""

from collections.abc import Callable, Sequence

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a byte-level tokenizer decodes the first bytes of an unfinished character to."""


class TextStream:
    """Decodes one completion as its tokens arrive and says which text may be sent by now.

    Held back are the bytes of an unfinished character and any end of the text that a stop string
    could still begin with. The deltas joined are the text of the whole completion, cut before the
    stop string that was completed first, wherever the borders of tokens lie.
    """

    def __init__(self, decode: Callable[[list[int]], str], stops: Sequence[str] = ()) -> None:
        self.tokens: list[int] = []
        self.stopped = False
        self._decode = decode
        self._stops = tuple(stops)
        self._sent = 0

    def push(self, token: int) -> str:
        """Add a token and return the text that it released, which may be empty."""
        self.tokens.append(token)
        text = self._decode(self.tokens).rstrip(UNFINISHED)
        return self._release(text, len(text) - self._held(text))

    def finish(self) -> str:
        """Return what is still held back: no token follows."""
        text = self._decode(self.tokens)
        return self._release(text, len(text))

    def _release(self, text: str, end: int) -> str:
        """Move on to `end`, or to where a stop string begins."""
        if self.stopped:
            return ""
        stop = self._stop_start(text)
        if stop is not None:
            self.stopped, end = True, stop
        delta = text[self._sent : end]
        self._sent = max(self._sent, end)
        return delta

    def _stop_start(self, text: str) -> int | None:
        """Where the stop string that ends first begins, or None where there is none."""
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop, self._sent)) >= 0]
        return min(found)[1] if found else None

    def _held(self, text: str) -> int:
        """Characters at the end of `text` that could be the beginning of a stop string."""
        longest = 0
        for stop in self._stops:
            reach = min(len(stop) - 1, len(text) - self._sent)
            longest = max(longest, next((n for n in range(reach, 0, -1) if text.endswith(stop[:n])), 0))
        return longest
