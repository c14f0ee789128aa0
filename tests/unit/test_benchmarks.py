from pathlib import Path

import pytest

from benchmarks import groups
from benchmarks.__main__ import main


def test_each_group_is_listed_with_its_benchmarks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{name}: {', '.join(groups.names(name))}" for name in groups.GROUPS
    ]


def test_a_name_that_is_no_benchmark_is_refused_and_leaves_no_empty_result(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["training", "--only", "trainer,startup", "--json", str(tmp_path / "made.json")])
    assert ended.value.code == 2
    assert "--only=trainer,startup is no benchmark of training. Known: checkpoints," in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
