"""How much a benchmark does."""

from dataclasses import dataclass

UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Rounds, and sizes of text in bytes."""

    rounds: int = 3
    """Fresh processes of each side."""
    text_bytes: int = 200 * 10**6
    """Text that the fast sides encode."""
    peer_text_bytes: int = 100 * 10**6
    """Text for peers that would take minutes for more."""
    sizes: tuple[int, ...] = (10**8, 3 * 10**8, 10**9)
    """Texts over which memory and time are followed."""


def parse_size(text: str) -> int:
    """`100MB` to bytes, by powers of ten."""
    number, unit = text.strip()[:-2], text.strip()[-2:].upper()
    return int(float(number) * UNITS[unit])


def show_size(size: int) -> str:
    """Bytes as a person writes them."""
    unit = next(unit for unit, factor in reversed(UNITS.items()) if size >= factor or unit == "KB")
    return f"{size / UNITS[unit]:,.4g} {unit}"
