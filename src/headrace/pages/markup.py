"""HTML that cannot be broken by what it shows: text is escaped unless it was made here."""

import html
import re
from collections.abc import Iterable, Sequence

VOID = ("meta", "line", "rect")
"""Elements without content; SVG's must say so, or they swallow what follows."""
UNSHOWN = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]")
"""Control characters, halves of surrogate pairs, and marks that reverse what follows them."""


class Html(str):
    """Markup that is shown as such."""

    __slots__ = ()


def escape(value: object) -> Html:
    """Text as it is shown; what is no character is replaced."""
    if isinstance(value, Html):
        return value
    return Html(html.escape(UNSHOWN.sub("\ufffd", str(value))))


def element(kind: str, /, *children: object, **attributes: object) -> Html:
    """One element; `_` in the name of an attribute is `-`, and at its end nothing (`class_`)."""
    pairs = [(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None]
    start = "".join([f"<{kind}", *(f' {key}="{escape(value)}"' for key, value in pairs)])
    return Html(f"{start}/>" if kind in VOID else f"{start}>{join(children)}</{kind}>")


def join(parts: Iterable[object]) -> Html:
    """Parts one after another, each escaped unless it is markup."""
    return Html("".join(escape(part) for part in parts))


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], caption: str, *, numbers: Iterable[int] = ()) -> Html:
    """A table whose columns `numbers` are set to the right."""
    right = frozenset(numbers)
    head = [element("th", text, scope="col", class_=_side(at, right)) for at, text in enumerate(heads)]
    body = (join(element("td", cell, class_=_side(at, right)) for at, cell in enumerate(row)) for row in rows)
    parts = [
        element("caption", caption),
        element("thead", element("tr", *head)),
        element("tbody", *(element("tr", cells) for cells in body)),
    ]
    return element("div", element("table", *parts), class_="scroll", tabindex="0", role="region", aria_label=caption)


def _side(column: int, right: frozenset[int]) -> str | None:
    return "number" if column in right else None
