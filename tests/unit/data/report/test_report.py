import dataclasses
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from headrace.artifacts import LookedFor
from headrace.config import decode
from headrace.data.documents import Document
from headrace.data.filtering.filter import FilterConfig, filter_documents, sign
from headrace.data.report.findings import BINS, DataReport, Mixed, SourceReport, mix
from headrace.data.report.page import CHARTED, page
from headrace.data.report.report import write_report
from headrace.data.shard_files import OpenShards
from headrace.errors import ConfigError, MismatchError
from headrace.pages.charts import Bar, bars, histogram
from headrace.pages.markup import element, escape, table

MakeShards = Callable[..., OpenShards]
ITEM = "water turns the wheel of the old mill by the river at night"
EXAM = [("exam<i>:1", ITEM), ("exam:2", "short")]
NASTY = "<script>alert('mill')</script>&\"\x00\ud800\u202e"


class Page(HTMLParser):
    """Refuses tags that do not nest, and gathers text and whatever leads out of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.shown: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [str(value) for key, value in attrs if key in ("src", "href", "srcset", "action", "onload")]
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ("meta", "line", "rect")
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.shown.append(data)


def lines() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = [{"text": "water flows " * (n % 9 + 1), "source": f"pile/{n % 3}"} for n in range(40)]
    return made + [{"prompt": f"gate {n}:", "target": " opens", "source": "p3/a"} for n in range(7)]


@pytest.fixture
def exclusions(tmp_path: Path) -> str:
    texts = [
        "grain into flour",
        "grain into flour",
        f"so {ITEM}",
        *(f"{ITEM.replace('old', 'new')} {'a b c ' * 30}",) * 2,
    ]
    texts.append(texts[-1] + " d")
    documents = [
        Document(source="pile/0" if n < 4 else NASTY[:8], text=text, file="/c/<b>.jsonl", line=n)
        for n, text in enumerate(texts, start=1)
    ]
    config = FilterConfig(jaccard=0.7)
    sign(documents, tmp_path / "signed", config, evaluation=EXAM, item_files={"exam": ["f" * 64]})
    filter_documents([tmp_path / "signed"], tmp_path / "exclusions", config)
    return str(tmp_path / "exclusions")


def written(uri: Path) -> DataReport:
    """What a sealed report says to scripts."""
    return decode(DataReport, json.loads((uri / "report.json").read_text()))


def test_numbers_are_those_counted_one_by_one(shards_of: MakeShards, exclusions: str, tmp_path: Path) -> None:
    text, instructions = (
        shards_of(lines()[:40], "text", exclusions, tokens_per_file=90, documents_per_batch=4),
        shards_of(lines()[40:], "asked", exclusions),
    )
    assert len(text.layout.files) > 2
    manifest = write_report(
        {"text": text.path, "instructions": instructions.path},
        exclusions,
        tmp_path / "out",
        weights={"pile": 3.0, "p3": 1.0},
        drawn={"pile": 740, "p3": 260},
    )
    report = written(tmp_path / "out")
    assert manifest.facts == report.summary()
    assert manifest.parents == report.parents
    for name in ("pile/0", "pile/1", "pile/2", "p3/a"):
        mine = [(part, n) for part in (text, instructions) for n in range(len(part)) if part.source(n) == name]
        lengths = [len(part.document(n)) for part, n in mine]
        one = report.sources[name]
        assert (one.documents, one.tokens) == (len(mine), sum(lengths))
        assert one.prompt_tokens == sum(part.prompt_tokens(n) for part, n in mine)
        bins = [sum(2**b <= length < 2 ** (b + 1) for length in lengths) for b in range(BINS)]
        assert one.lengths == bins
    assert (report.documents, report.tokens) == (47, text.tokens + instructions.tokens)
    assert (report.compared, report.exact, report.near, report.contaminated) == (6, 2, 1, 1)
    assert (report.overlapping, report.items, report.unchecked) == (1, 2, 1)
    assert manifest.facts.looked_for == {"exam": LookedFor(files=("f" * 64,), items=1, unchecked=1)}
    assert report.sources["pile/0"].compared == 3 and report.sources[NASTY[:8]].excluded == 2
    assert report.mixture == {
        "pile": Mixed(weight=0.75, tokens=740, share=0.74),
        "p3": Mixed(weight=0.25, tokens=260, share=0.26),
    }
    assert report.summary().mixture_off_points == pytest.approx(1.0)
    assert set(report.parents) == {"text", "instructions", "exclusions"}


def test_the_numbers_lie_beside_the_page_and_the_page_shows_them(
    shards_of: MakeShards, exclusions: str, tmp_path: Path
) -> None:
    shards = shards_of(lines(), exclusions=exclusions)
    (shards.path / "quarantine.jsonl").write_text(
        json.dumps({"file": "/c/x", "line": 4, "reason": "is <broken>"}) + "\n"
    )
    write_report({"text": shards.path}, exclusions, tmp_path / "out", weights={"pile": 1.0})
    report = written(tmp_path / "out")
    shown = " ".join(Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).shown)
    for words in (f"{report.tokens:,}", "pile/2", "/c/<b>.jsonl:2", "exam<i>:1", ITEM, "/c/x:4", "is <broken>"):
        assert words in shown
    assert report.quarantined == 1 and "none has been drawn yet" in shown


def test_exclusions_that_the_shards_were_not_written_without_say_nothing_of_them(
    shards_of: MakeShards, exclusions: str, tmp_path: Path
) -> None:
    filter_documents([tmp_path / "signed"], tmp_path / "other", FilterConfig(jaccard=0.7, contamination="report"))
    for name, given in (("unfiltered", None), ("otherwise", str(tmp_path / "other"))):
        shards = shards_of(lines(), name, given)
        with pytest.raises(MismatchError, match=f"{name} was not written without what exclusions"):
            write_report({"text": shards.path}, exclusions, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_page_without_a_filter_or_a_mixture_says_nothing_of_them(shards_of: MakeShards, tmp_path: Path) -> None:
    write_report({"text": shards_of(lines()).path}, None, tmp_path / "out")
    heads = re.findall("<h2>(.*?)</h2>", (tmp_path / "out" / "report.html").read_text())
    assert heads == ["Sources", "Lengths"]


def nasty_report(sources: int = 3) -> DataReport:
    one = SourceReport(documents=2, tokens=9, lengths=[0, 1, 0, 1, *[0] * (BINS - 4)], compared=3, near=1)
    line = {"file": NASTY, "line": 1, "source": NASTY, "kind": "near", "reason": NASTY}
    return DataReport(
        documents=2,
        tokens=9,
        sources={f"{NASTY}{n}": one for n in range(sources)},
        compared=3,
        near=1,
        overlapping=1,
        items=1,
        quarantined=1,
        mixture={NASTY: Mixed(weight=1.0, tokens=3, share=1.0)},
        exclusions=[line],
        overlaps=[line | {"item": NASTY, "words": NASTY * 40, "ngrams": 2}],
        faults=[line],
        parents={NASTY: NASTY},
    )


@pytest.mark.parametrize("sources", [0, 1, 3, 200])
def test_nothing_that_is_shown_breaks_out_of_its_place(sources: int) -> None:
    text = page(nasty_report(sources), NASTY)
    parsed = Page(text)
    assert "script" not in parsed.tags and parsed.links == []
    assert text.encode("utf-8").decode() == text and "\x00" not in text and "\u202e" not in text
    assert "url(" not in text and "@import" not in text and "http" not in text.replace("http-equiv", "")
    assert "prefers-color-scheme: dark" in text and 'lang="en"' in text


def test_large_families_are_charted_as_one_and_every_token_is_in_a_bar() -> None:
    sources = {f"p3/t{n}": 10 + n for n in range(25)} | {f"pile/s{n}": 900 + n for n in range(24)} | {"cot": 5}
    lengths = [0, 1, *[0] * (BINS - 2)]
    reports = {name: SourceReport(documents=1, tokens=tokens, lengths=lengths) for name, tokens in sources.items()}
    total = sum(sources.values())
    text = page(DataReport(documents=50, tokens=total, sources=reports), "Data")
    (said,) = re.findall('aria-label="Tokens by source: (.*?)"', text)
    shown = {
        name: int(tokens.replace(",", ""))
        for name, tokens in re.findall(r"(\S.*?) ([\d,]+) \(", said.replace("; ", "\n"))
    }
    assert len(shown) == 26 and sum(shown.values()) == total
    assert "p3/t1:" not in text and 'aria-label="p3 (25 sources), tokens: 2–3 25"' in text


def test_an_empty_report_is_a_page() -> None:
    assert Page(page(DataReport(documents=0, tokens=0, sources={}), "Nothing")).shown


def test_text_is_escaped_and_markup_is_not() -> None:
    assert escape("<b>&'\"") == "&lt;b&gt;&amp;&#x27;&quot;"
    assert element("p", "<", element("b", ">"), class_='a"b', data_x=None) == '<p class="a&quot;b">&lt;<b>&gt;</b></p>'
    assert "<td>&lt;i&gt;</td>" in table(("a",), [("<i>",)], "c")


def test_bars_are_as_long_as_their_values() -> None:
    drawn = bars([Bar("a", 50, "50"), Bar("b", 200, "200"), Bar("c", 0, "0", mark=100)], "Tokens")
    widths = [float(width) for width in re.findall(r'<rect[^>]* width="([\d.]+)"', drawn)]
    assert widths[1] == 4 * widths[0] > 0 and widths[2] == 0
    (mark,) = re.findall(r'<line x1="([\d.]+)"', drawn)
    start = float(re.findall(r'<rect x="([\d.]+)"', drawn)[0])
    assert float(mark) - start == widths[1] / 2
    assert 'aria-label="Tokens: a 50; b 200; c 0"' in drawn


def test_columns_are_as_high_as_their_counts_and_empty_ones_are_not_drawn() -> None:
    drawn = histogram([0, 10, 0, 40], ["1", "2–3", "4–7", "8–15"], "Lengths")
    heights = [float(height) for height in re.findall(r'<rect[^>]* height="([\d.]+)"', drawn)]
    assert len(heights) == 2 and heights[1] == 4 * heights[0]
    assert 'aria-label="Lengths: 2–3 10; 8–15 40"' in drawn
    assert histogram([], [], "Nothing") and bars([], "Nothing")


def test_shares_are_of_all_that_was_drawn() -> None:
    assert mix({"a": 1.0, "b": 1.0}, {"a": 30}) == {
        "a": Mixed(weight=0.5, tokens=30, share=1.0),
        "b": Mixed(weight=0.5, tokens=0, share=0.0),
    }
    with pytest.raises(ConfigError, match=r"drew from 'c', which has no weight\. Known: a"):
        mix({"a": 1.0}, {"c": 1})


def test_totals_are_sums_over_sources(shards_of: MakeShards, exclusions: str, tmp_path: Path) -> None:
    write_report({"text": shards_of(lines(), exclusions=exclusions).path}, exclusions, tmp_path / "out")
    report = written(tmp_path / "out")
    for name in ("documents", "tokens", "compared", "exact", "near", "contaminated"):
        assert getattr(report, name) == sum(getattr(one, name) for one in report.sources.values())
    assert dataclasses.asdict(report)["mixture"] == {} and report.summary().mixture_off_points is None


def test_sources_beyond_those_that_are_charted_are_one_bar_and_told_of() -> None:
    lengths, tokens = [0, 1, *[0] * (BINS - 2)], [100 - n for n in range(CHARTED + 3)]
    reports = {f"s{n}": SourceReport(documents=1, tokens=one, lengths=lengths) for n, one in enumerate(tokens)}
    text = page(DataReport(documents=len(tokens), tokens=sum(tokens), sources=reports), "Data")
    (said,) = re.findall('aria-label="Tokens by source: (.*?)"', text)
    *_, last, rest = said.split("; ")
    assert last.startswith(f"s{CHARTED - 1} {tokens[CHARTED - 1]} (")
    assert rest.startswith(f"3 more {sum(tokens[CHARTED:])} (")
    assert "3 smaller sources are in report.json." in text
