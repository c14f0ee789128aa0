"""Small charts as inline SVG: no script, no network, colours from the page's light or dark style.

Each says in words what it shows, for those who do not see it, and each bar tells its value when pointed at.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.pages.markup import Html, element, join

LABEL_WIDTH, BAR_WIDTH, VALUE_WIDTH = 260, 460, 180
ROW_HEIGHT, BAR_HEIGHT = 26, 16
LETTERS = 34
"""Characters of a label that fit beside its bar."""
HISTOGRAM_WIDTH, HISTOGRAM_HEIGHT = 260, 110


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a bar chart."""

    label: str
    value: float
    text: str
    """The value as it is written beside the bar."""
    mark: float | None = None
    """A second value to hold the first against, drawn as a line across the bar."""


def bars(rows: Sequence[Bar], title: str) -> Html:
    """Horizontal bars from zero, one a row."""
    top = max([value for row in rows for value in (row.value, row.mark or 0.0)], default=0.0) or 1.0
    height = ROW_HEIGHT * max(1, len(rows))
    parts = [_row(row, number * ROW_HEIGHT, BAR_WIDTH / top) for number, row in enumerate(rows)]
    said = f"{title}: " + "; ".join(f"{row.label} {row.text}" for row in rows)
    return _drawing(LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH, height, title, said, parts)


def _row(row: Bar, y: int, scale: float) -> Html:
    middle = y + ROW_HEIGHT / 2
    width = max(row.value * scale, 1.5 if row.value else 0.0)
    end = LABEL_WIDTH + max(width, (row.mark or 0.0) * scale)
    bar = {"x": LABEL_WIDTH, "y": y + (ROW_HEIGHT - BAR_HEIGHT) / 2, "width": f"{width:.1f}", "height": BAR_HEIGHT}
    parts = [
        element("title", f"{row.label}: {row.text}"),
        element("text", _short(row.label), x=LABEL_WIDTH - 10, y=middle, class_="label", text_anchor="end"),
        element("rect", **bar, rx=2, class_="bar"),
        element("text", row.text, x=f"{end + 8:.1f}", y=middle, class_="value"),
    ]
    if row.mark is not None:
        x = f"{LABEL_WIDTH + row.mark * scale:.1f}"
        parts.append(element("line", x1=x, x2=x, y1=y + 2, y2=y + ROW_HEIGHT - 2, class_="mark"))
    return element("g", *parts)


def _short(label: str) -> str:
    """A label that fits; the middle is left out, since names of one family begin alike."""
    half = LETTERS // 2
    return label if len(label) <= LETTERS else f"{label[: half - 1]}…{label[-half:]}"


def histogram(counts: Sequence[int], labels: Sequence[str], title: str) -> Html:
    """Columns side by side; the first and the last are named below."""
    top = max(counts, default=0) or 1
    step = HISTOGRAM_WIDTH / max(1, len(counts))
    filled = [number for number, count in enumerate(counts) if count]
    parts = []
    for number in filled:
        height = max(1.5, HISTOGRAM_HEIGHT * counts[number] / top)
        place = {"x": f"{number * step + 1:.1f}", "y": f"{HISTOGRAM_HEIGHT - height:.1f}"}
        size = {"width": f"{max(1.0, step - 2):.1f}", "height": f"{height:.1f}"}
        told = element("title", f"{labels[number]}: {counts[number]:,}")
        parts.append(element("g", told, element("rect", **place, **size, rx=1, class_="bar")))
    base = HISTOGRAM_HEIGHT + 0.5
    parts.append(element("line", x1=0, x2=HISTOGRAM_WIDTH, y1=base, y2=base, class_="axis"))
    ends = ((0, 0, "start"), (len(labels) - 1, HISTOGRAM_WIDTH, "end")) if filled else ()
    for number, x, anchor in ends[: len(labels)]:
        parts.append(element("text", labels[number], x=x, y=base + 11, class_="value", text_anchor=anchor))
    said = f"{title}: " + "; ".join(f"{labels[number]} {counts[number]:,}" for number in filled)
    return _drawing(HISTOGRAM_WIDTH, HISTOGRAM_HEIGHT + 22, title, said, parts)


def _drawing(width: float, height: float, title: str, said: str, parts: Sequence[Html]) -> Html:
    box = {"viewBox": f"0 0 {width} {height}", "width": width, "height": height}
    return element("svg", join(parts), **box, role="img", aria_label=said, data_title=title)
