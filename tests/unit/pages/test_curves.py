"""Curves, read back out of the picture."""

from xml.etree import ElementTree

import pytest

from headrace.pages.curves import Curve, Panel, picture

SVG = "{http://www.w3.org/2000/svg}"
FALL = Curve("falls & <falls>", [(1.0, 3.0), (10.0, 2.0), (1000.0, 1.0)])
FLAT = Curve("flat", [(1.0, 2.0), (1000.0, 2.0)])


def drawn(*panels: Panel) -> ElementTree.Element:
    return ElementTree.fromstring(picture(panels, "Loss"))


def lines(root: ElementTree.Element) -> list[list[tuple[float, float]]]:
    found = [line.attrib["points"].split() for line in root.iter(f"{SVG}polyline")]
    return [[(float(x), float(y)) for x, y in (point.split(",") for point in points)] for points in found]


def texts(root: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in root.iter(f"{SVG}text")]


def test_points_lie_where_their_values_do_and_lower_values_lower() -> None:
    falling, flat = lines(drawn(Panel("Loss", "steps", [FALL, FLAT])))
    (x1, y1), (x2, y2), (x3, y3) = falling
    assert (x2 - x1) / (x3 - x1) == pytest.approx(9 / 999, abs=1e-3)
    assert y1 < y2 < y3 and (y2 - y1) == pytest.approx(y3 - y2, abs=0.2)
    assert {y for _, y in flat} == {y2}


def test_powers_of_ten_lie_at_equal_distances_where_asked() -> None:
    panel = Panel("Loss", "bytes", [FALL], logarithmic=True)
    ((x1, _), (x2, _), (x3, _)) = lines(drawn(panel))[0]
    assert (x2 - x1) / (x3 - x1) == pytest.approx(1 / 3, abs=1e-3)
    assert [text for text in texts(drawn(panel)) if text in ("1", "10", "100", "1,000")][:4] == [
        "1",
        "10",
        "100",
        "1,000",
    ]


def test_a_picture_names_its_curves_once_and_says_where_they_end() -> None:
    root = drawn(Panel("Loss", "bytes", [FALL, FLAT], logarithmic=True), Panel("Loss", "seconds", [FALL, FLAT]))
    assert texts(root).count("falls & <falls>") == texts(root).count("flat") == 1
    assert "Loss by seconds, at the end: falls & <falls> 1 at 1,000; flat 2 at 1,000." in root.attrib["aria-label"]
    assert len(lines(root)) == 4
    colours = [line.attrib["stroke"] for line in root.iter(f"{SVG}polyline")]
    assert colours[:2] == colours[2:] and colours[0] != colours[1]


def test_a_single_point_is_drawn() -> None:
    assert lines(drawn(Panel("Loss", "steps", [Curve("one", [(3.0, 2.0)])])))
