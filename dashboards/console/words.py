"""Numbers, times and foreign text as the pages show them."""

import re
import time

from headrace import durations


def escape(text: str) -> str:
    """Text as Markdown that shows it as it is: run names and reasons are not ours to format."""
    return re.sub(r"([\\`*_{}\[\]<>()#+$~|:!-])", r"\\\1", text)


def unsigned(text: str) -> str:
    """Text without the user and password of any address in it: a tracking URI may be a database's."""
    return re.sub(r"://[^/\s]*@", "://", text)


def duration(seconds: float) -> str:
    """Seconds in the two largest units that say something: `4.2 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    return durations.duration(seconds)


def moment(seconds: float) -> str:
    """A Unix time in UTC, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def number(value: float) -> str:
    """Four significant digits, thousands apart where the number is whole."""
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"
