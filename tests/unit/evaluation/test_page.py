"""What the page of an evaluation says, read back from its HTML."""

import html
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from headrace.artifacts import EvalReport, Metric
from headrace.config import encode
from headrace.evaluation.config import EvalConfig, TaskConfig
from headrace.evaluation.confusion import Confusion
from headrace.evaluation.page import page
from headrace.evaluation.scores import Example
from headrace.pages.published import COLUMNS, GPT_J, ROWS


class Balanced(HTMLParser):
    """Every element that is opened is closed in order; `script` and what lies elsewhere are not used."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag not in ("script", "link", "img")
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def shown(*, bos_eos: bool = False, limit: int | None = None, prompt: str = "Goal:") -> str:
    tasks = {
        "p": TaskConfig(kind="piqa", data="d", limit=limit),
        "words": TaskConfig(kind="lambada_openai", data="d"),
    }
    values = {"p/acc_norm": (0.5, True), "words/perplexity": (4.25, False)}
    for part, value in {"prose": 9.5, "prose.ArXiv": 12.5, "prose.Github": 6.5}.items():
        values |= {f"{part}/perplexity": (value, False), f"{part}/bits_per_byte": (value / 10, False)}
    metrics = {name: Metric(value=v, stderr=0.02, n=300, higher_is_better=up) for name, (v, up) in values.items()}
    report = EvalReport(checkpoint="c" * 64, mask="prefix", metrics=metrics, data="d" * 64)
    config = EvalConfig(tasks=tasks, perplexity={"prose": "d"}, bos_eos=bos_eos)
    details = {"config": encode(config), "lm_eval": "0.4", "truncated_requests": 7, "truncated_tokens": 1234}
    examples = {
        name: [Example(id="0", scores={"acc": 1.0}, prompt=prompt, target="<t>", prediction="said")] for name in tasks
    }
    return page(report, details, examples, {"p": Confusion(["a", "b"], [[3, 1], [0, 2]])})


def rows(text: str) -> list[list[str]]:
    found = re.findall("<tr>(.*?)</tr>", text)
    return [
        [html.unescape(re.sub("<[^>]*>", "", cell)) for cell in re.findall("<t[hd].*?</t[hd]>", row)] for row in found
    ]


def test_a_page_is_whole_and_shows_text_as_text() -> None:
    text = shown(prompt="<script>alert(1)</script>")
    Balanced(text)
    assert "&lt;script&gt;" in text and "&lt;t&gt;" in text


def test_every_metric_is_shown_with_its_error_and_n() -> None:
    assert ["words/perplexity", "4.2500", "0.0200", "300", "lower"] in rows(shown())
    assert ["p/acc_norm", "0.5000", "0.0200", "300", "higher"] in rows(shown())
    assert "50.0 ± 2.0" in shown() and "1,234" in shown() and "c" * 64 in shown()


def test_a_checkpoint_stands_beside_the_published_models_in_their_columns() -> None:
    table = rows(shown())
    assert ["Model", "LAMBADA ppl", "LAMBADA", "Winogrande", "HellaSwag", "PIQA"] in table
    assert ["this checkpoint", "4.25 ± 0.02 (n 300)", "–", "–", "–", "50.0 ± 2.0\u00a0% (n 300)"] in table
    assert ["GPT-J-6B", "3.99", "69.7\u00a0%", "65.3\u00a0%", "66.1\u00a0%", "76.5\u00a0%"] in table
    assert len([row for row in table if row[0] in {one.model for one in ROWS}]) == len(ROWS)
    assert [GPT_J.value(*key) for key in COLUMNS] == list(GPT_J.values)


def test_what_sets_it_apart_from_the_published_ones_is_said() -> None:
    assert "not put before every context" in shown() and "limited" not in shown()
    assert "Asked as GPT-J was" in shown(bos_eos=True)
    assert "limited to their first examples" in shown(bos_eos=True, limit=50)


def test_answers_are_counted_by_what_was_right() -> None:
    table = rows(shown())
    assert table[table.index(["Right", "said a", "said b"]) + 1] == ["a", "3", "1"]


def test_held_out_text_is_shown_by_source_beside_the_whole() -> None:
    table = rows(shown())
    start = table.index(["Text", "Perplexity per token", "Bits per byte", "Documents"])
    assert table[start + 1 : start + 4] == [
        ["prose", "9.5000 ± 0.0200", "0.9500 ± 0.0200", "300"],
        ["prose.ArXiv", "12.5000 ± 0.0200", "1.2500 ± 0.0200", "300"],
        ["prose.Github", "6.5000 ± 0.0200", "0.6500 ± 0.0200", "300"],
    ]
    chart = re.search("<svg(?:(?!</svg>).)*perplexity by source(?:(?!</svg>).)*</svg>", shown())
    assert chart is not None
    widths = [float(width) for width in re.findall('<rect[^>]* width="([0-9.]+)"', chart[0])]
    assert [width / widths[1] for width in widths] == pytest.approx([9.5 / 12.5, 1, 6.5 / 12.5], abs=1e-3)
    assert chart[0].count('class="mark"') == 3
