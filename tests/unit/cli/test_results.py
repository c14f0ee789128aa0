import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from headrace import storage
from headrace.artifacts import EvalReport, Metric, Rule, Verdict
from headrace.cli import results
from headrace.cli.stages import Board
from headrace.errors import ConfigError

REPORT = EvalReport(checkpoint="c" * 64, mask="prefix", metrics={"facts/acc": Metric(value=0.9, stderr=0.02, n=270)})
VERDICT = Verdict(
    passed=True,
    candidate="c" * 64,
    champion=None,
    model="gptj",
    rules=(Rule(name="floor", passed=True, reason="Yes."),),
)


def seal(path: Path, facts: Any) -> dict[str, Any]:
    with storage.writing(path) as tree:
        tree.commit(facts)
    return {"uri": str(path), "metadata": {}}


def collected(folder: Path, **artifacts: dict[str, Any]) -> dict[str, Any]:
    board = Board(["evaluate", "gate", "deploy"], Console(file=io.StringIO()))
    for name, made in artifacts.items():
        board.stages[name].artifacts = {"made": made}
        board.stages[name].state = "done"
    return results.collect("run-1", "parent", {"pipeline": "release", "status": "FINISHED"}, board, 12.34567)


def test_a_finished_run_is_told_whole_in_values_that_survive_json(tmp_path: Path) -> None:
    told = collected(tmp_path, evaluate=seal(tmp_path / "r", REPORT), gate=seal(tmp_path / "v", VERDICT))
    assert json.loads(json.dumps(told)) == told
    assert {"run_id", "stages", "metrics", "verdict", "mlflow", "facts", "seconds", "pipeline", "status"} == set(told)
    assert told["metrics"]["evaluate"]["facts/acc"] == {
        "value": 0.9, "stderr": 0.02, "n": 270, "higher_is_better": True,
    }  # fmt: skip
    assert (told["verdict"]["passed"], told["verdict"]["rules"][0]["name"]) == (True, "floor")
    assert told["mlflow"]["run_id"] == "parent"
    assert [stage["state"] for stage in told["stages"]] == ["done", "done", "waiting"]
    assert set(told["facts"]) == {"evaluate/made", "gate/made"}


def test_an_output_that_is_damaged_or_gone_leaves_the_rest_told(tmp_path: Path) -> None:
    gone = {"uri": str(tmp_path / "nowhere"), "metadata": {}}
    told = collected(tmp_path, evaluate=gone, gate=seal(tmp_path / "v", VERDICT))
    assert (told["metrics"], told["verdict"]["model"]) == ({}, "gptj")
    assert told["stages"][0]["artifacts"] == {"made": gone}


def test_results_are_written_to_every_place_that_was_given(tmp_path: Path) -> None:
    results.write({"run_id": "a"}, tmp_path / "one.json", None, tmp_path / "two.json")
    assert json.loads((tmp_path / "one.json").read_text()) == json.loads((tmp_path / "two.json").read_text())
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        results.write({"run_id": "a"}, tmp_path / "file" / "told.json")
