"""Documents that cannot be used: told with their place and reason, and refused where they are too many.

One broken line in a corpus of millions should not end a day's work, and a corpus that is broken as a whole
should not become a model. So each fault is kept, and more than a declared fraction of them is an error.
"""

from dataclasses import dataclass

from headrace.errors import ConfigError, DataError

SHOWN = 3
"""Faults that an error names."""
MANY = 100_000
"""Faults after which a reader no longer waits for good documents to outweigh them, and memory stays small."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One document that cannot be used."""

    file: str
    line: int
    """Line or number from 1, as a document's; 0 for the whole file."""
    reason: str
    """What is wrong, to be read after the place: `is broken JSON (...)`."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.reason}" if self.line else f"{self.file} {self.reason}"


class Quarantine:
    """Collects the faults of one reading, and counts the documents that have none."""

    def __init__(self, limit: float = 0.001) -> None:
        """Allow a fraction of documents to be faulty.

        Raises:
            ConfigError: `limit` is no fraction.
        """
        if not 0 <= limit <= 1:
            raise ConfigError(f"quarantine_limit={limit} is no fraction of documents. Set it between 0 and 1.")
        self.limit = limit
        self.faults: list[Fault] = []
        self.good = 0

    def add(self, file: str, line: int, reason: str) -> None:
        """Keep one fault.

        Raises:
            DataError: There are many already, and they are above the limit.
        """
        self.faults.append(Fault(file, line, reason))
        if len(self.faults) % MANY == 0:
            self.check()

    def seen(self, documents: int = 1) -> None:
        """Count good documents."""
        self.good += documents

    @property
    def fraction(self) -> float:
        """Faulty documents as a share of all that were read."""
        return len(self.faults) / max(1, len(self.faults) + self.good)

    def check(self) -> None:
        """Refuse more faults than are allowed.

        Raises:
            DataError: The fraction is above the limit; the first few faults are named.
        """
        if self.fraction <= self.limit:
            return
        read = len(self.faults) + self.good
        first = "; ".join(str(fault) for fault in self.faults[:SHOWN])
        more = f"; and {len(self.faults) - SHOWN:,} more" if len(self.faults) > SHOWN else ""
        raise DataError(
            f"{len(self.faults):,} of {read:,} documents cannot be used, {100 * self.fraction:.3g} %, and the limit is "
            f"{100 * self.limit:g} %: {first}{more}. Repair them, or raise quarantine_limit."
        )
