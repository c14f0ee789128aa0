"""The page of a data report: one file that needs nothing else, in light and dark."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from headrace.data.report.findings import BINS, DataReport, SourceReport
from headrace.pages.charts import Bar, bars, histogram
from headrace.pages.document import document, section, tiles
from headrace.pages.markup import Html, element, table

CHARTED = 36
"""Sources, or families of them, that a chart shows one by one."""
FAMILY = 24
"""A family (`p3` of `p3/imdb`) of more sources than this is charted as one."""
TABLED = 2000
WORDS_SHOWN = 240


def page(report: DataReport, title: str) -> str:
    """The whole document."""
    sections = (_mixture, _sources, _duplicates, _contamination, _quarantine, _lengths)
    digests = ", ".join(f"{name} {digest[:12]}" for name, digest in sorted(report.parents.items()))
    parts = (_tiles(report), *(show(report) for show in sections))
    return document(title, parts, f"Of {digests}" if digests else "")


def _tiles(report: DataReport) -> Html:
    left_out = report.exact + report.near + report.contaminated
    shown = [
        ("Tokens", f"{report.tokens:,}", f"{report.documents:,} documents"),
        ("Sources", f"{len(report.sources):,}", ""),
        ("Left out", f"{left_out:,}", f"of {report.compared:,} compared ({share(left_out, report.compared)})"),
        ("Contaminated", f"{report.overlapping:,}", f"documents, against {report.items:,} evaluation items"),
        ("Quarantined", f"{report.quarantined:,}", "documents that could not be read"),
    ]
    return tiles(shown)


def share(part: float, whole: float) -> str:
    """A percentage with a decimal."""
    return f"{100 * part / whole:.1f}\u00a0%" if whole else "0\u00a0%"


def _largest(report: DataReport) -> list[tuple[str, SourceReport]]:
    return sorted(report.sources.items(), key=lambda pair: (-pair[1].tokens, pair[0]))


def _charted(report: DataReport) -> list[tuple[str, SourceReport]]:
    """Sources with large families as one each, the largest first."""
    sizes = Counter(family(name) for name in report.sources)
    merged: dict[str, SourceReport] = {}
    for name, one in report.sources.items():
        head = family(name)
        shown = f"{head} ({sizes[head]:,} sources)" if sizes[head] > FAMILY else name
        merged[shown] = merged[shown].plus(one) if shown in merged else one
    return sorted(merged.items(), key=lambda pair: (-pair[1].tokens, pair[0]))


def family(source: str) -> str:
    """`p3` of `p3/imdb`."""
    return source.partition("/")[0]


def _sources(report: DataReport) -> Html:
    ordered = _largest(report)
    rows = [
        (name, f"{one.documents:,}", f"{one.tokens:,}", share(one.tokens, report.tokens), _mean(one))
        for name, one in ordered[:TABLED]
    ]
    charted = _charted(report)
    chart = [Bar(name, one.tokens, f"{one.tokens:,} ({share(one.tokens, report.tokens)})") for name, one in charted]
    rest = sum(one.tokens for _, one in charted[CHARTED:])
    if rest:
        more = f"{len(charted) - CHARTED:,} more"
        chart[CHARTED:] = [Bar(more, rest, f"{rest:,} ({share(rest, report.tokens)})")]
    heads = ("Source", "Documents", "Tokens", "Share", "Tokens a document")
    return section(
        "Sources",
        "Tokens of each source after filtering, end-of-text included.",
        element("div", bars(chart, "Tokens by source"), class_="card"),
        table(heads, rows, _some(len(rows), len(ordered), "sources"), numbers=range(1, 5)),
    )


def _mean(one: SourceReport) -> str:
    return f"{one.tokens / one.documents:,.0f}" if one.documents else "–"


def _some(shown: int, there: int, what: str) -> str:
    return f"{there:,} {what}" if shown == there else f"The first {shown:,} of {there:,} {what}"


def _lengths(report: DataReport) -> Html:
    filled = [(name, one) for name, one in _charted(report) if one.documents]
    last = max((n for _, one in filled for n in range(BINS) if one.lengths[n]), default=0)
    labels = [f"{2**n:,}–{2 ** (n + 1) - 1:,}" if n else "1" for n in range(last + 1)]
    cards = [
        element(
            "div", element("h3", name), histogram(one.lengths[: last + 1], labels, f"{name}, tokens"), class_="card"
        )
        for name, one in filled[:CHARTED]
    ]
    words = "Documents by length in tokens. A column holds lengths up to twice those of the one before it."
    more = len(filled) - len(cards)
    note = element("p", f"{more:,} smaller sources are in report.json.") if more else Html()
    return section("Lengths", words, element("div", *cards, class_="small"), note)


def _mixture(report: DataReport) -> Html:
    if not report.mixture:
        return Html()
    drawn = any(one.tokens for one in report.mixture.values())
    rows = [
        (name, share(one.weight, 1), f"{one.tokens:,}", share(one.share, 1), f"{100 * (one.share - one.weight):+.2f}")
        for name, one in report.mixture.items()
    ]
    chart = [
        Bar(name, one.share, f"{share(one.share, 1)} of {share(one.weight, 1)}", mark=one.weight)
        for name, one in report.mixture.items()
    ]
    heads = ("Source", "Asked", "Tokens drawn", "Realised", "Points off")
    words = "Shares of tokens: bars are what was drawn, the lines across them what was asked for."
    return section(
        "Mixture",
        words if drawn else "Shares of tokens asked for; none has been drawn yet.",
        element("div", bars(chart, "Realised shares"), class_="card") if drawn else "",
        table(heads, rows, f"{len(rows)} sources", numbers=range(1, 5)),
    )


def _duplicates(report: DataReport) -> Html:
    if not report.compared:
        return Html()
    hit = sorted(
        ((name, one) for name, one in report.sources.items() if one.excluded), key=lambda x: (-x[1].excluded, x[0])
    )
    rows = [
        (name, *(f"{n:,}" for n in _excluded(one)), share(one.excluded, one.compared)) for name, one in hit[:TABLED]
    ]
    heads = ("Source", "Compared", "Exact", "Near", "Contaminated", "Left out")
    listed = [(_where(line), line["reason"]) for line in report.exclusions]
    return section(
        "Left out",
        f"Of {report.compared:,} documents {report.exact:,} equal an earlier one, {report.near:,} nearly do, and "
        f"{report.contaminated:,} hold words of an evaluation item.",
        table(heads, rows, _some(len(rows), len(hit), "sources with documents left out"), numbers=range(1, 6)),
        _listing(("Document", "Reason"), listed, report.exact + report.near, "duplicates"),
    )


def _excluded(one: SourceReport) -> tuple[int, int, int, int]:
    return one.compared, one.exact, one.near, one.contaminated


def _contamination(report: DataReport) -> Html:
    if not report.items:
        return Html()
    rows = [(_where(line), line["item"], _short(line["words"]), f"{line['ngrams']:,}") for line in report.overlaps]
    kept = report.overlapping - report.contaminated
    return section(
        "Contamination",
        f"{report.overlapping:,} documents share words with one of {report.items:,} evaluation items"
        + (f"; {kept:,} of them are trained on all the same. " if kept else ". ")
        + f"{report.unchecked:,} items are too short to be looked for, or say what many others say.",
        _listing(("Document", "Evaluation item", "Shared words", "n-grams"), rows, None, "overlaps", numbers=(3,)),
    )


def _quarantine(report: DataReport) -> Html:
    if not report.quarantined:
        return Html()
    rows = [(_where(fault), fault.get("reason", "")) for fault in report.faults]
    words = "What could not be read as a document, and is not part of the data."
    return section(
        "Quarantined", words, _listing(("Document", "Reason"), rows, report.quarantined, "quarantined documents")
    )


def _listing(
    heads: Sequence[str], rows: Sequence[Sequence[object]], there: int | None, what: str, numbers: Iterable[int] = ()
) -> Html:
    if not rows:
        return Html()
    caption = f"The first {len(rows):,} {what}" if there is None else _some(len(rows), there, what)
    return table(heads, rows, caption, numbers=numbers)


def _where(line: dict[str, Any]) -> str:
    return f"{line['file']}:{line['line']}"


def _short(text: str) -> str:
    return text if len(text) <= WORDS_SHOWN else f"{text[:WORDS_SHOWN]}…"
