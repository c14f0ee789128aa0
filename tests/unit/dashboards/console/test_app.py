"""The console as a visitor sees it, page by page, over a real store."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from headrace import tracking

CONSOLE = Path(__file__).parents[4] / "dashboards" / "console"
PATIENCE_SECONDS = 60


def opened(page: str = "runs_page.py") -> AppTest:
    app = AppTest.from_file(str(CONSOLE / "app.py"), default_timeout=PATIENCE_SECONDS).run()
    return app.switch_page(page).run() if page != "runs_page.py" else app


def text_of(app: AppTest) -> str:
    """Everything on the page that is text."""
    kinds = (app.header, app.subheader, app.markdown, app.caption, app.info, app.warning, app.error, app.success)
    shown = [element.value for kind in kinds for element in kind]
    shown += [f"{metric.label}: {metric.value}" for metric in app.metric]
    tables = [*app.dataframe, *app.table]
    shown += [str(cell) for table in tables for row in table.value.values.tolist() for cell in row]
    return "\n".join(shown).replace("\\", "")


def charts_of(app: AppTest) -> list[dict[str, Any]]:
    return [json.loads(element.proto.spec) for element in app.get("plotly_chart")]


@pytest.mark.parametrize("page", ["runs_page.py", "versions_page.py"])
def test_an_empty_store_says_how_to_fill_it(empty_store: None, page: str) -> None:
    app = opened(page)
    assert not app.exception
    (invitation,) = app.info
    assert "headrace run end_to_end --recipe demo" in invitation.value
    assert "mlflow.db" in text_of(app)


def test_the_newest_run_is_shown_first(store: Any) -> None:
    app = opened()
    assert not app.exception
    assert app.selectbox[0].options[0] == "end_to_end · demo · 2026-01-01 00:33:20 UTC · running"
    assert "No stage has begun." in text_of(app)


def test_a_run_shows_its_stages_numbers_and_curves(store: Any) -> None:
    app = opened()
    app.selectbox[0].set_value(app.selectbox[0].options[-1]).run()
    shown = text_of(app)
    assert not app.exception
    for said in ("State: done", "Took: 8 min 00 s", "Stages: 3", "Answered by the cache: 0", "0.8725"):
        assert said in shown
    timeline, curve = charts_of(app)
    assert timeline["data"][0]["y"] == ["gather", "pretrain", "evaluate"]
    assert timeline["data"][0]["text"] == ["9.5 s", "2 min 30 s", "40 s"]
    assert [line["name"] for line in curve["data"]] == ["pretrain"]


def test_another_metric_can_be_drawn(store: Any) -> None:
    app = opened()
    app.selectbox[0].set_value(app.selectbox[0].options[-1]).run()
    app.selectbox[1].set_value("tokens_per_second").run()
    assert charts_of(app)[1]["data"][0]["y"] == [9000, 9100, 9200]


def test_a_failed_run_names_the_stage_and_what_was_cached(store: Any) -> None:
    app = opened()
    app.selectbox[0].set_value(app.selectbox[0].options[1]).run()
    shown = text_of(app)
    for said in ("State: failed", "Failed: evaluate.", "Answered by the cache: 1"):
        assert said in shown
    assert {bars["name"]: bars["text"] for bars in charts_of(app)[0]["data"]} == {
        "cached": ["cached"],
        "failed": ["1 min 00 s"],
    }


def test_the_champion_shows_its_rules_and_numbers(store: Any) -> None:
    app = opened("versions_page.py")
    shown = text_of(app)
    assert not app.exception
    assert "2 of 2 rules passed" in shown
    assert "Checkpoint c2c2c2c2c2c2 was held against c1c1c1c1c1c1." in shown
    assert "facts/exact_match differs from champion's by +0.35 (+0.3 to +0.4), *p = 0.0004*." in shown
    assert "difference 0.35 · low 0.3 · high 0.4 · p_value 0.0004 · n 400 · alpha 0.05" in shown
    assert charts_of(app)[0]["data"][0]["y"] == ["beats champion"]
    assert app.code[0].value == "headrace models rollback demo"


def test_an_earlier_version_can_be_looked_at(store: Any) -> None:
    app = opened("versions_page.py")
    assert app.selectbox[1].options == ["version 2 · champion", "version 1 · previous"]
    app.selectbox[1].set_value(app.selectbox[1].options[1]).run()
    assert "Checkpoint c1c1c1c1c1c1 was held against nothing, as the first of its name." in text_of(app)
    assert not app.code


def test_a_version_without_evidence_is_marked_so(store: Any) -> None:
    app = opened("versions_page.py")
    app.selectbox[0].set_value("gptjt-6b").run()
    assert not app.exception
    assert "carries no evidence" in text_of(app)


def test_an_unreachable_store_is_one_line_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracking.client.cache_clear()
    app = opened()
    assert not app.exception
    (error,) = app.error
    assert "MLflow at http://127.0.0.1:9 does not answer" in error.value.replace("\\", "")
    assert "secret" not in text_of(app)


def test_nothing_is_reported_to_streamlit() -> None:
    settings = tomllib.loads((CONSOLE / ".streamlit" / "config.toml").read_text())
    assert settings["browser"]["gatherUsageStats"] is False


def test_a_challenger_is_shown_with_the_command_that_approves_it(store: Any) -> None:
    number = store.client.get_model_version_by_alias("demo", "previous").version
    store.client.set_registered_model_alias("demo", "challenger", number)
    store.client.set_model_version_tag("demo", number, "headrace.rejected", "2026-01-01T00:09:00Z by ada: rude")
    app = opened("versions_page.py")
    app.selectbox[1].select_index(1).run()
    assert not app.exception
    assert app.code[0].value == f"headrace models approve demo/{number} --reason WHY"
    assert "Rejected 2026-01-01T00:09:00Z by ada: rude" in text_of(app)
