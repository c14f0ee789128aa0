"""What the pages say, against what a reader would write."""

import pytest
from markdown_it import MarkdownIt

from dashboards.console.words import duration, escape, moment, number, unsigned


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"),
     (3599.6, "1 h 00 min"), (7500, "2 h 05 min")],
)  # fmt: skip
def test_durations_name_two_units_and_never_sixty_of_the_smaller(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_moment_is_said_in_utc() -> None:
    assert moment(1_767_225_600) == "2026-01-01 00:00:00 UTC"


@pytest.mark.parametrize(("value", "said"), [(0.0004, "0.0004"), (400.0, "400"), (9217, "9,217"), (2.39812, "2.398")])
def test_numbers_keep_four_digits(value: float, said: str) -> None:
    assert number(value) == said


def test_foreign_text_passes_through_markdown_unchanged() -> None:
    text = "a_b *c* <b>d</b> [e](f) `g` $h$ #i ~j~ k|l :m: \\n - o!"
    rendered = MarkdownIt("gfm-like", {"linkify": False}).render(escape(text))
    shown = rendered.replace("&lt;", "<").replace("&gt;", ">")
    assert shown == f"<p>{text}</p>\n"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:s3cr@t@db:5432/mlflow is down", "postgresql://db:5432/mlflow is down"),
        ("https://token@mlflow.example/a@b", "https://mlflow.example/a@b"),
        ("sqlite:////home/me@here/mlflow.db", "sqlite:////home/me@here/mlflow.db"),
    ],
)
def test_addresses_are_shown_without_who_may_use_them(address: str, shown: str) -> None:
    assert unsigned(address) == shown
