"""RAFT's rows, prompts and labels, written out by hand."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.data.tokenizer import TextTokenizer
from headrace.errors import DataError
from headrace.evaluation.config import TaskConfig
from headrace.evaluation.raft import read_raft
from headrace.evaluation.sources import read_task, read_with
from headrace.evaluation.tasks import HeadraceLM, build_task, run_task
from headrace.models.gptj import GPTJ

REAL = Path(__file__).parents[4] / "shared" / "data" / "eval" / "raft"
LABELS = ["not a complaint", "complaint"]
ROWS = [(f"The wheel\nis {n}.", LABELS[n % 2], str(n)) for n in range(4)]
OPENING = "Tell complaints.\nPossible labels:\n1. not a complaint\n2. complaint"
Make = Callable[..., str]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Lay a task out as RAFT does: `make(settings=False, rows=[...])`."""

    def made(*, settings: bool = True, rows: Any = ROWS, labels: Any = LABELS) -> str:
        folder = tmp_path / "tweets"
        folder.mkdir()
        columns = {"name": "tweets", "data_columns": ["Tweet", "ID"], "label_columns": {"Label": labels}}
        (folder / "task.json").write_text(json.dumps(columns))
        if settings:
            lines = [{"tweets": ["Tweet"]}, {"tweets": "Tell complaints."}]
            (tmp_path / "prompt_construction_settings.jsonl").write_text("\n".join(map(json.dumps, lines)))
        with (folder / "train.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("Tweet", "Label", "ID"), *rows])
        return str(folder / "train.csv")

    return made


def contexts(config: TaskConfig, file: str, folder: Path) -> list[tuple[str, Any]]:
    task = build_task("t", config, {config.data: file}, folder)
    task.build_all_requests()
    return [instance.args for instance in task.instances]


def test_a_prompt_is_the_instructions_the_labels_and_the_columns_that_are_shown(make: Make, tmp_path: Path) -> None:
    config = TaskConfig(kind="raft", data="tweets")
    (prompt, manner), *others = contexts(config, make(), tmp_path)
    assert prompt == f"{OPENING}\n\nTweet: The wheel\nis 0.\nLabel:"
    assert (manner["until"], manner["do_sample"], len(others)) == (["\n"], False, 3)


def test_each_row_is_asked_after_others_and_never_after_itself(make: Make, tmp_path: Path) -> None:
    config = TaskConfig(kind="raft", data="tweets", num_fewshot=3, fewshot="tweets")
    for n, (prompt, _) in enumerate(contexts(config, make(), tmp_path)):
        opening, *shots, asked = prompt.split("\n\n")
        assert (opening, asked) == (OPENING, f"Tweet: The wheel\nis {n}.\nLabel:")
        solved = {f"Tweet: The wheel\nis {m}.\nLabel: {LABELS[m % 2]}" for m in range(4) if m != n}
        assert len(shots) == 3 and set(shots) == solved


def test_without_instructions_a_prompt_begins_with_the_labels_and_empty_columns_are_left_out(tmp_path: Path) -> None:
    description = {"name": "mills", "data_columns": ["Title", "Place", "ID"], "label_columns": {"Label": ["b", "a"]}}
    (tmp_path / "task.json").write_text(json.dumps(description))
    (tmp_path / "train.csv").write_text("Title,Place,Label,ID\nWheel,,b,0\nWeir , Ely,a,1\n")
    config = TaskConfig(kind="raft", data="mills", num_fewshot=1, fewshot="mills")
    asked = [prompt for prompt, _ in contexts(config, str(tmp_path / "train.csv"), tmp_path)]
    assert asked == [
        "Possible labels:\n1. b\n2. a\n\nTitle: Weir \nPlace:  Ely\nLabel: a\n\nTitle: Wheel\nLabel:",
        "Possible labels:\n1. b\n2. a\n\nTitle: Wheel\nLabel: b\n\nTitle: Weir \nPlace:  Ely\nLabel:",
    ]


def test_by_likelihood_every_label_of_the_task_is_a_choice(
    make: Make, tmp_path: Path, model: GPTJ, tokenizer: TextTokenizer
) -> None:
    file = make(settings=False)
    config = TaskConfig(kind="raft_likelihood", data="tweets")
    result = run_task(HeadraceLM(model, tokenizer), "t", config, {"tweets": file})
    for example, (_, label, number) in zip(result.examples, ROWS, strict=True):
        assert example.choices == [f" {label}" for label in LABELS]
        assert (example.id, example.target) == (number, f" {label}")
        likeliest = example.choices[max((0, 1), key=lambda n: example.loglikelihoods[n])]
        assert example.prediction == likeliest
        assert example.scores == {"acc": float(likeliest == f" {label}")}


def test_a_task_is_told_by_either_of_its_files(make: Make) -> None:
    rows = make(settings=False)
    task = rows.replace("train.csv", "task.json")
    assert read_raft(rows) == read_raft(task)
    assert (read_with("raft", rows), read_with("raft", task)) == ([task], [rows])


def lay_out(folder: Path, rows: Any = ROWS, names: Any = ("Unlabeled", *LABELS)) -> str:
    """A data set as the hub has RAFT: a configuration for each task, labels as numbers."""
    datasets = pytest.importorskip("datasets")
    label = datasets.ClassLabel(names=list(names)) if names else datasets.Value("string")
    columns = {"Tweet": datasets.Value("string"), "ID": datasets.Value("int32"), "Label": label}
    held = [dict(zip(("Tweet", "Label", "ID"), row, strict=True)) for row in rows]
    held = [{**row, "ID": int(row["ID"])} for row in held]
    datasets.disable_progress_bars()
    split = datasets.Dataset.from_list(held, features=datasets.Features(columns))
    (folder / "hub").mkdir(exist_ok=True)
    split.to_parquet(folder / "hub" / "tweets.parquet")
    told = "configs:\n- config_name: tweets\n  data_files:\n  - split: train\n    path: tweets.parquet\n"
    (folder / "hub" / "README.md").write_text(f"---\n{told}---\n")
    return f"hub:{folder}/hub/tweets"


def test_a_task_of_the_hub_is_asked_as_its_files_are(make: Make, tmp_path: Path) -> None:
    file, named = make(settings=False), lay_out(tmp_path)
    assert read_task("raft", [named]) == read_task("raft", [file])
    config = TaskConfig(kind="raft", data="tweets", num_fewshot=2, fewshot="tweets")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    asked = [prompt for prompt, _ in contexts(config, named, tmp_path / "a")]
    assert asked == [prompt for prompt, _ in contexts(config, file, tmp_path / "b")]
    assert all(prompt.startswith("Possible labels:\n1. not a complaint\n2. complaint\n\nTweet: ") for prompt in asked)


def test_a_column_of_the_hub_without_a_value_is_left_out(tmp_path: Path) -> None:
    (row,) = read_raft(lay_out(tmp_path, [(None, "complaint", 7)]))
    assert (row["id"], row["prompt"], row["label"], row["target"]) == ("7", "\nLabel:", 1, "complaint")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": [("a", "Unlabeled", 0)]}, ["row 1", "Label='Unlabeled'", "not a complaint"]),
        ({"rows": [("a", None, 0)]}, ["row 1", "Label='Unlabeled'"]),
        ({"rows": [("a", -1, 0)]}, ["row 1", "Label='Unlabeled'"]),
        ({"names": (), "rows": [("a", "complaint", 0)]}, ["no column 'Label' that names its labels", "hub:ought/raft"]),
    ],
)
def test_what_of_the_hub_is_no_labelled_task_is_refused_in_one_line(
    tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(DataError) as caught:
        read_task("raft", [lay_out(tmp_path, **changes)])
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": [("a", "praise", "0")]}, ["row 1", "Label='praise'", "not a complaint"]),
        ({"rows": [("a",)]}, ["row 1", "no 'Label'"]),
        ({"labels": []}, ["lists no labels"]),
        ({"rows": []}, ["is empty"]),
    ],
)
def test_what_is_no_labelled_task_is_refused_in_one_line(
    make: Make, tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(DataError) as caught:
        build_task("t", TaskConfig(kind="raft", data="tweets"), {"tweets": make(**changes)}, tmp_path)
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


def test_a_task_without_its_description_and_too_few_rows_are_refused(make: Make, tmp_path: Path) -> None:
    file = make()
    config = TaskConfig(kind="raft", data="tweets", num_fewshot=4, fewshot="tweets")
    with pytest.raises(DataError, match="4 rows, and num_fewshot=4"):
        build_task("t", config, {"tweets": file}, tmp_path)
    (tmp_path / "tweets" / "task.json").unlink()
    with pytest.raises(DataError, match=r"task\.json cannot be opened"):
        read_raft(file)


@pytest.mark.skipif(not REAL.exists(), reason="needs the data sets in ../shared, which are not redistributed")
def test_the_tasks_read_as_they_are_handed_on() -> None:
    for file in sorted(REAL.glob("*/train.csv")):
        rows = read_raft(str(file))
        assert len(rows) == 50 and all(row["choices"][row["label"]] == row["target"] for row in rows)


@pytest.mark.skipif(not REAL.exists(), reason="needs the data sets in ../shared, which are not redistributed")
@pytest.mark.parametrize(
    ("name", "columns", "labels"),
    [
        ("tweet_eval_hate", ["Tweet"], ["hate speech", "not hate speech"]),
        (
            "tai_safety_research",
            ["Title", "Abstract Note", "Publication Title", "Item Type", "Publication Year"],
            ["TAI safety research", "not TAI safety research"],
        ),
        ("systematic_review_inclusion", ["Title", "Abstract", "Journal"], ["included", "not included"]),
    ],
)
def test_real_tasks_are_asked_as_the_benchmark_asks_them(
    name: str, columns: list[str], labels: list[str], tmp_path: Path
) -> None:
    """As the example prompts of oughtinc/raft-baselines stand there, put together by hand."""
    instructions = json.loads((REAL / "prompt_construction_settings.jsonl").read_text().splitlines()[1])[name]
    with (REAL / name / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    shown = ["".join(f"{column}: {row[column]}\n" for column in columns if row[column]) for row in rows]
    solved = {f"{text}Label: {row['Label']}\n\n" for text, row in zip(shown, rows, strict=True)}
    config = TaskConfig(kind="raft", data="t", num_fewshot=2, fewshot="t")
    for (prompt, _), text in zip(contexts(config, str(REAL / name / "train.csv"), tmp_path), shown, strict=True):
        opening = f"{instructions}\nPossible labels:\n1. {labels[0]}\n2. {labels[1]}\n\n"
        assert prompt.startswith(opening) and prompt.endswith(f"\n\n{text}Label:")
        between = prompt.removeprefix(opening).removesuffix(f"{text}Label:")
        assert sum(between == one + other for one in solved for other in solved) == 1
