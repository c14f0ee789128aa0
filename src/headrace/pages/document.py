"""A page: a heading, numbers at a glance, sections, and what it is of."""

from collections.abc import Iterable

from headrace.pages.markup import Html, element, join
from headrace.pages.style import STYLE


def document(title: str, parts: Iterable[object], footer: str) -> str:
    """The whole page."""
    head = join(
        [
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("title", title),
            Html(f"<style>{STYLE}</style>"),
        ]
    )
    main = element("main", element("h1", title), *parts)
    body = element("body", main, element("main", element("footer", footer)))
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>{body}</html>\n'


def tiles(shown: Iterable[tuple[str, str, str]]) -> Html:
    """Numbers at a glance: a name, a value and a note each."""
    cards = [
        element("div", element("dt", name), element("dd", value, element("small", note)), class_="tile")
        for name, value, note in shown
    ]
    return element("dl", *cards, class_="tiles")


def section(title: str, words: str, *parts: object) -> Html:
    """A heading, what the section shows, and its tables and charts."""
    return element("section", element("h2", title), element("p", words), *parts)
