"""Curves over one quantity as inline SVG, and several such panels as a picture that stands alone."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from headrace.pages.markup import Html, element, join

WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 26, 44
LEGEND_HEIGHT, LEGEND_WIDTH = 18, 210
TICKS = 5
COLOURS = ("#777777", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31")
"""Told apart by those who see colours otherwise, on white and on black. Source: Okabe and Ito 2008."""
STYLE = """
svg { color-scheme: light dark; font: 12px system-ui, sans-serif; }
text { fill: #3c464c; } .axis { stroke: #c9d0d2; } .page { fill: #ffffff; }
@media (prefers-color-scheme: dark) { text { fill: #c3ccd1; } .axis { stroke: #454f56; } .page { fill: #14181b; } }
"""


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a panel."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves over the same axes."""

    title: str
    x_name: str
    curves: Sequence[Curve]
    logarithmic: bool = False
    """Whether powers of ten of x lie at equal distances; x is above 0 then."""


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float
    start: float
    """Where `low` is drawn."""
    stop: float

    def place(self, value: float) -> str:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return f"{self.start + share * (self.stop - self.start):.1f}"


def picture(panels: Sequence[Panel], title: str) -> str:
    """Panels side by side over one legend, as a file that a browser shows in light and dark.

    The curves of all panels have the same names in the same order.
    """
    names = [curve.name for curve in panels[0].curves]
    columns = max(1, WIDTH * len(panels) // LEGEND_WIDTH)
    width, height = WIDTH * len(panels), HEIGHT + LEGEND_HEIGHT * -(-len(names) // columns) + 8
    parts = [element("style", Html(STYLE)), element("rect", width=width, height=height, class_="page")]
    parts += [element("g", draw(panel), transform=f"translate({n * WIDTH} 0)") for n, panel in enumerate(panels)]
    for number, name in enumerate(names):
        x, y = number % columns * LEGEND_WIDTH + LEFT, HEIGHT + number // columns * LEGEND_HEIGHT + 8
        parts.append(element("rect", x=x, y=y - 2, width=18, height=4, fill=_colour(number)))
        parts.append(element("text", name, x=x + 24, y=y + 4))
    said = f"{title}. " + " ".join(_said(panel) for panel in panels)
    box = {"viewBox": f"0 0 {width} {height}", "width": width, "height": height, "role": "img", "aria_label": said}
    return element("svg", join(parts), xmlns="http://www.w3.org/2000/svg", **box) + "\n"


def draw(panel: Panel) -> Html:
    """The curves of a panel with its axes."""
    scale: Callable[[float], float] = math.log10 if panel.logarithmic else float
    scaled = [replace(curve, points=[(scale(x), y) for x, y in curve.points]) for curve in panel.curves]
    xs, ys = ([point[axis] for curve in scaled for point in curve.points] for axis in (0, 1))
    across = _Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    up = _Axis(min(ys), max(ys), HEIGHT - BOTTOM, TOP)
    parts = [element("text", panel.title, x=LEFT, y=14, font_weight="bold")]
    parts += [_tick_across(value, across, panel.logarithmic) for value in _ticks(across, panel.logarithmic)]
    parts += [_tick_up(value, up) for value in _ticks(up)]
    parts.append(element("text", panel.x_name, x=WIDTH - RIGHT, y=HEIGHT - 8, text_anchor="end"))
    parts += [_line(curve, number, across, up) for number, curve in enumerate(scaled)]
    return join(parts)


def _line(curve: Curve, number: int, across: _Axis, up: _Axis) -> Html:
    points = " ".join(f"{across.place(x)},{up.place(y)}" for x, y in curve.points)
    look = {"fill": "none", "stroke": _colour(number), "stroke_width": 1.8, "stroke_linejoin": "round"}
    return element("polyline", element("title", curve.name), points=points, **look)


def _ticks(axis: _Axis, whole: bool = False) -> list[float]:
    """Round numbers within an axis, about `TICKS`; powers of ten where they are exponents."""
    rough = (axis.high - axis.low) / TICKS or 1.0
    power = 10 ** math.floor(math.log10(rough))
    step = 1.0 if whole else next(power * n for n in (1, 2, 5, 10) if power * n >= rough * 0.999)
    return [step * n for n in range(math.ceil(axis.low / step), math.floor(axis.high / step) + 1)]


def _tick_across(value: float, axis: _Axis, logarithmic: bool) -> Html:
    x, text = axis.place(value), f"{10**value if logarithmic else value:,.10g}"
    line = element("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, class_="axis")
    return join([line, element("text", text, x=x, y=HEIGHT - BOTTOM + 16, text_anchor="middle")])


def _tick_up(value: float, axis: _Axis) -> Html:
    y = axis.place(value)
    line = element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="axis")
    return join([line, element("text", f"{value:,.10g}", x=LEFT - 6, y=float(y) + 4, text_anchor="end")])


def _said(panel: Panel) -> str:
    """What a panel shows, for those who do not see it: where each curve ends."""
    ends = "; ".join(f"{c.name} {c.points[-1][1]:.4g} at {c.points[-1][0]:,.4g}" for c in panel.curves)
    return f"{panel.title} by {panel.x_name}, at the end: {ends}."


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]
