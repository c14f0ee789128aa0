import io
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from headrace.cli import closing

METRICS = {
    "evaluate base": {
        "facts/exact_match": {"value": 0.12345, "stderr": 0.0211},
        "text/loss": {"value": 3, "stderr": 0},
    },
    "evaluate candidate": {"facts/exact_match": {"value": 0.9, "stderr": 0.0189}},
    "evaluate-incumbent": {},
}


def told(**changes: Any) -> dict[str, Any]:
    nothing: dict[str, Any] = {"metrics": {}, "verdict": None, "facts": {}, "stages": []}
    return {"pipeline": "end-to-end", "seconds": 61.4, **nothing, **changes}


def screen(told: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=120, record=True)
    closing.show(told, SimpleNamespace(model="gptj"), console)
    return console.export_text()


def test_the_metrics_stand_beside_one_another_with_their_standard_errors() -> None:
    console = Console(file=io.StringIO(), width=120, record=True)
    console.print(closing.metrics_table(METRICS))
    header, *rows = (line.split("  ") for line in console.export_text().splitlines())
    assert [cell.strip() for cell in header if cell.strip()] == ["measured on held-out data", "base", "candidate"]
    assert [[cell.strip() for cell in row if cell.strip()] for row in rows] == [
        ["facts/exact_match", "0.1235 ± 0.021", "0.9 ± 0.019"],
        ["text/loss", "3 ± 0"],
    ]


def test_a_passing_verdict_is_followed_by_the_commands_that_serve_and_take_back() -> None:
    rules = [{"name": "floor", "passed": True, "reason": "0.9 reaches 0.8."}]
    shown = screen(told(metrics=METRICS, verdict={"passed": True, "model": "gptj", "rules": rules}))
    assert "✓ floor: 0.9 reaches 0.8." in shown
    assert "headrace serve gptj@champion" in shown
    assert "headrace models rollback gptj" in shown
    assert "end-to-end finished in 61 s." in shown


def test_what_waits_for_approval_is_followed_by_the_commands_that_decide() -> None:
    version = {"name": "gptj", "version": 3, "alias": "challenger"}
    verdict = {"passed": True, "model": "gptj", "rules": []}
    shown = screen(told(verdict=verdict, facts={"promote/version": version}))
    assert "headrace models approve gptj/3 --reason WHY" in shown
    assert "headrace models reject gptj/3 --reason WHY" in shown
    assert "serve" not in shown and "rollback" not in shown


def test_without_a_passing_verdict_nothing_is_offered_that_is_not_there() -> None:
    rules = [{"name": "floor", "passed": False, "reason": "0.1 is below 0.8."}]
    assert "✗ floor" in screen(told(verdict={"passed": False, "model": "gptj", "rules": rules}))
    for shown in (screen(told()), screen(told(verdict={"passed": False, "model": "gptj", "rules": rules}))):
        assert "headrace ui" in shown
        assert "serve" not in shown


def test_what_a_model_answers_is_shown_as_it_is() -> None:
    endpoint = {"model": "models:/gptj/1", "ready_seconds": 1.5, "latency_ms": 20.0, "answers": {"[x] or": " [/b] y"}}
    shown = screen(told(facts={"deploy/endpoint": endpoint}))
    assert "models:/gptj/1 was ready in 1.5 s and answers in 20 ms" in shown
    assert "[x] or [/b] y" in shown


def test_what_an_earlier_run_measured_is_said_to_be_so() -> None:
    stages = [{"name": "pretrain", "state": "cached"}, {"name": "close", "state": "done"}]
    assert "1 of 2 stages were not run now" in " ".join(screen(told(stages=stages)).split())
    assert "not run now" not in screen(told(stages=stages[1:]))


def test_what_was_prepared_is_summed_up_with_where_its_report_lies() -> None:
    counts = {"documents": 1200, "tokens": 34567, "exact": 3, "near": 4, "contaminated": 0, "overlapping": 1}
    facts = {**counts, "items": 1961, "quarantined": 6, "mixture_off_points": 0.1173}
    stage = {"name": "report data", "state": "done", "artifacts": {"page": {"uri": "/out/[page]"}}}
    shown = screen(told(facts={"report data/summary": facts}, stages=[stage]))
    assert "34,567 tokens in 1,200 documents" in shown
    assert "3 exact duplicates, 4 near duplicates, 0 contaminated; 6 could not be read." in shown
    assert "1 overlap with one of 1,961 evaluation items" in shown
    assert "within 0.12 points" in shown
    assert "/out/[page]" in shown
    assert "points" not in screen(
        told(facts={"report data/summary": {**facts, "mixture_off_points": None}}, stages=[stage])
    )
