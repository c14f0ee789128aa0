"""The data of GPT-JT from files in their own formats to shards, a report and the mixture, by one command."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace import storage
from headrace.artifacts import TokenShards
from headrace.data.report.report import NUMBERS_FILE
from headrace.data.shards import open_shards
from tests.e2e.test_chain import run, states
from tests.project import make_project

SLICES = Path(__file__).parents[3] / "shared" / "data"
WEIGHTS = {"pile": 0.55, "p3": 0.20, "natural_instructions": 0.20, "cot": 0.05}
WORDS = ["river", "mill", "wheel", "grain", "water", "stone", "flour", "weir", "turns", "grinds", "flows", "carries"]


def text(rng: random.Random, least: int, most: int) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(least, most)))


def write_lines(path: Path, records: Iterator[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def write_corpora(folder: Path) -> dict[str, str]:
    """The four data sets and the evaluation splits, small; one Pile document is of an evaluation item."""
    rng = random.Random(0)
    exam = text(rng, 40, 40)
    prose = [text(rng, 50, 400) for _ in range(300)]
    pile = [*prose, prose[0], f"So {exam} it was."]
    subsets = ("ArXiv", "Pile-CC")
    write_lines(
        folder / "pile" / "00.jsonl",
        ({"text": one, "meta": {"pile_set_name": subsets[n % 2]}} for n, one in enumerate(pile)),
    )
    write_lines(
        folder / "p3" / "glue_qqp.jsonl",
        ({"prompt": f"{text(rng, 20, 90)}?", "completion": text(rng, 1, 9)} for _ in range(200)),
    )
    shown = {"input": "a", "output": "b", "explanation": ""}
    for number in (1, 2):
        task = {
            "Definition": [text(rng, 20, 40)],
            "Positive Examples": [shown, shown],
            "Negative Examples": [],
            "Instances": [
                {"id": str(n), "input": text(rng, 20, 60), "output": [text(rng, 1, 6)]} for n in range(60 * number)
            ],
        }
        place = folder / "ni" / f"task00{number}_mill_generation.json"
        place.parent.mkdir(exist_ok=True)
        place.write_text(json.dumps(task))
    (folder / "test_tasks.txt").write_text("task002_mill_generation\n")
    asked = (f"Q: {text(rng, 10, 40)}?\nA: Let's think step by step. {text(rng, 10, 60)}" for _ in range(40))
    opening = "The following are questions about mills."
    (folder / "cot.json").write_text(json.dumps({"mills": "\n\n".join([opening, *asked])}))
    write_lines(folder / "exam.jsonl", iter([{"text": exam}]))
    names = ("lambada_openai", "winogrande", "hellaswag", "piqa")
    return {
        "corpus.sources.pile.uri": str(folder / "pile"),
        "corpus.sources.p3.uri": str(folder / "p3"),
        "corpus.sources.natural_instructions.uri": str(folder / "ni"),
        "corpus.sources.natural_instructions.except_tasks": str(folder / "test_tasks.txt"),
        "corpus.sources.cot.uri": str(folder / "cot.json"),
        "corpus.files.heldout_text": str(folder / "exam.jsonl"),
        **{f"corpus.files.{name}": str(folder / "exam.jsonl") for name in names},
    }


def real_corpora() -> dict[str, str]:
    """The same from slices of the real data sets."""
    instruct, exam = SLICES / "instruct", SLICES / "eval"
    return {
        "corpus.sources.pile.uri": str(SLICES / "pretrain/pile_like/small.jsonl.zst"),
        "corpus.sources.p3.uri": str(instruct / "p3_t0/data_per_template"),
        "corpus.sources.p3.except_files": '["trec_*"]',  # without a byte, or with empty completions alone
        "corpus.sources.natural_instructions.uri": str(instruct / "superni_sapt"),
        "corpus.sources.natural_instructions.quarantine_limit": "0.01",
        "corpus.sources.natural_instructions.except_tasks": str(instruct / "ni_tasks/splits/default/test_tasks.txt"),
        "corpus.sources.cot.uri": str(instruct / "mmlu_cot/mmlu-cot.json"),
        "corpus.files.heldout_text": str(SLICES / "pretrain/wikitext2/valid.txt"),
        "corpus.files.lambada_openai": str(exam / "lambada/lambada_openai_llmfoundry.jsonl"),
        "corpus.files.hellaswag": str(exam / "hellaswag/hellaswag_val.jsonl"),
        "corpus.files.winogrande": str(exam / "winogrande/train_xs.jsonl"),
        "corpus.files.piqa": str(exam / "piqa/valid.jsonl"),
    }


def prepared(folder: Path, places: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a run of `prepare` came to, and its report."""
    project = make_project(folder / "project")
    assignments = [word for key, value in places.items() for word in ("--set", f"{key}={value}")]
    told = run(project, *assignments, chain="prepare", recipe="gptjt_data")
    assert set(states(told).values()) == {"done"}
    (stage,) = (stage for stage in told["stages"] if stage["name"] == "report data")
    return told, json.loads((Path(stage["artifacts"]["summary"]["uri"]) / NUMBERS_FILE).read_text())


def check_mixture(report: dict[str, Any]) -> None:
    assert report["mixture"].keys() == WEIGHTS.keys()
    assert sum(one["tokens"] for one in report["mixture"].values()) >= 1_000_000
    for name, weight in WEIGHTS.items():
        assert report["mixture"][name]["share"] == pytest.approx(weight, abs=0.005)


def test_the_four_data_sets_become_one_manifest_and_the_mixture_of_gptjt(tmp_path: Path) -> None:
    told, report = prepared(tmp_path, write_corpora(tmp_path / "corpora"))
    assert (report["exact"], report["contaminated"]) == (1, 1)
    assert report["overlaps"][0]["file"].endswith("pile/00.jsonl")
    assert report["overlaps"][0]["line"] == 302
    documents = {name: one["documents"] for name, one in report["sources"].items()}
    assert documents == {
        "cot/mills": 40,
        "natural_instructions/task001": 60,
        "p3/glue_qqp": 200,
        "pile/ArXiv": 150,
        "pile/Pile-CC": 150,
    }
    (stage,) = (stage for stage in told["stages"] if stage["name"] == "combine")
    joined = open_shards(stage["artifacts"]["tokens"]["uri"])
    assert storage.read(joined.path, TokenShards).facts.tokens == report["tokens"]
    assert joined.origin(0).endswith(".json:1")
    check_mixture(report)


@pytest.mark.skipif(not SLICES.is_dir(), reason="needs ../shared/data, slices of the real data sets")
def test_slices_of_the_real_data_sets_become_the_mixture_of_gptjt(tmp_path: Path) -> None:
    _, report = prepared(tmp_path, real_corpora())
    assert report["tokens"] > 5_000_000
    assert {name.partition("/")[0] for name in report["sources"]} == set(WEIGHTS)
    assert {fault["reason"] for fault in report["faults"]} == {"has an empty 'output'"}
    check_mixture(report)
