"""Results as Markdown, cell by cell."""

from headrace.artifacts import Metric
from headrace.pages.results import results, table


def test_tasks_of_the_harness_stand_beside_published_models() -> None:
    half = Metric(value=0.5, stderr=0.125, n=1234)
    text = results({"winogrande/acc": half, "mine/acc": half, "lambada_openai/perplexity": half})
    assert "| mine/acc | 0.5000 | 0.1250 | 1,234 |\n" in text
    assert "|  | LAMBADA ppl | Winogrande |\n| --- | --- | --- |\n| this model | 0.500 | 0.500 |\n" in text
    assert "| GPT-J-6B | 3.990 | 0.653 |\n" in text
    assert "GPT-J-6B" not in results({"mine/acc": half})


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    assert table(("a", "b"), [("x|y", 1)]) == "| a | b |\n| --- | --- |\n| x\\|y | 1 |"
