from pathlib import Path

import pytest
import torch

from benchmarks import groups
from benchmarks.__main__ import main
from benchmarks.alternate import Measured
from benchmarks.options import Options
from benchmarks.training import gpu


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


@pytest.mark.skipif(torch.cuda.is_available(), reason="would measure")
def test_without_a_gpu_nothing_is_said_to_be_measured() -> None:
    (table,) = gpu.run(Options())
    assert not table.rows and not table.numbers
    assert table.notes == ["There is no GPU: nothing was measured."]


def test_both_sides_of_the_gpus_table_take_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_DEVICE", "cpu")
    monkeypatch.setattr(gpu, "WARM_STEPS", 1)
    monkeypatch.setattr(gpu, "STEPS", 2)
    shape = {"vocab_size": 96, "n_layer": 2, "d_model": 32, "n_head": 2, "d_ff": 64, "rotary_dim": 8}
    case = {"shape": shape, "context": 64, "rows": 4, "microbatch": 2}
    sides = {mask: gpu.headrace(mask, **case) for mask in ("causal", "prefix")}
    sides["peer"] = gpu.transformers_trainer(**case)
    assert {side["tokens"] for side in sides.values()} == {256}
    assert all(0 < side["mfu"] < 1 and side["device_bytes"] > 0 for side in sides.values())
    names = ("causal", "packed prefixes", "transformers.Trainer")
    measured = {name: Measured([side | {"other_cores": 0.0}]) for name, side in zip(names, sides.values(), strict=True)}
    table = gpu.table("a CPU", measured)
    rates = [side["tokens"] / side["seconds"] for side in sides.values()]
    assert [row["tokens/s"] for row in table.rows] == [f"{rate:,.0f}" for rate in rates]
    assert table.numbers["ratio"] == pytest.approx(rates[0] / rates[2])


def test_packed_rows_of_the_gpus_table_hold_prompts_and_no_other_document() -> None:
    plain, packed = (gpu.batch(mask, 96, 64, 3) for mask in ("causal", "prefix"))
    assert (plain.tokens_BT == packed.tokens_BT).all()
    assert not plain.prefix_BT.any() and (plain.segments_BT == 1).all()
    assert packed.segments_BT[0].tolist() == [1] * 16 + [2] * 16 + [3] * 16 + [4] * 16
    assert packed.prefix_BT[0].tolist() == ([True] * 8 + [False] * 8) * 4
