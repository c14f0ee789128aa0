"""The demo's policy on the demo's own questions: each rule must be decidable, and decided by the scores alone."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from headrace import storage
from headrace.artifacts import EvalReport
from headrace.data.corpus import gather_corpus, splits
from headrace.evaluation.estimate import mean
from headrace.evaluation.gate import decide
from headrace.evaluation.scores import Example, columns, score_file, write_examples
from headrace.evaluation.tasks import build_task
from headrace.storage import Stored
from pipelines.recipes.demo import demo

ON_EXAMPLES = "beats base on facts_3shot/exact_match"


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Ids of the questions of each of the demo's tasks, as the harness reads them."""
    folder = tmp_path_factory.mktemp("demo")
    recipe = demo()
    gather_corpus(recipe.corpus, folder / "corpus")
    data = splits(folder / "corpus")
    ids = {}
    for name, config in recipe.evaluation.tasks.items():
        task = build_task(name, config, data, folder / name)
        ids[name] = [doc["id"] for doc in task.test_docs()]
    return ids


def report(folder: Path, ids: Mapping[str, list[str]], right: Mapping[str, float]) -> Stored[EvalReport]:
    """A report in which the first `right[task]` of each task's questions are answered."""
    metrics = {}
    with storage.writing(folder) as tree:
        for name, names in ids.items():
            known = round(right[name] * len(names))
            scored = [
                Example(id=one, prompt="", target="", prediction="", scores={"exact_match": float(i < known)})
                for i, one in enumerate(names)
            ]
            write_examples(score_file(tree.path, name), scored)
            metrics[f"{name}/exact_match"] = mean(*columns(scored, "exact_match"), name)
        digest = hashlib.sha256(json.dumps(right).encode()).hexdigest()
        tree.commit(EvalReport(checkpoint=digest, mask="prefix", metrics=metrics, data="the demo's"))
    return storage.read(folder, EvalReport)


@pytest.mark.parametrize(
    ("candidate", "failed"),
    [
        ({"facts": 0.95, "facts_3shot": 0.1}, []),
        ({"facts": 0.7, "facts_3shot": 0.1}, ["floor"]),
        ({"facts": 0.81, "facts_3shot": 0.9}, [ON_EXAMPLES]),
    ],
)
def test_the_policy_of_the_demo_passes_what_it_says_and_blocks_what_it_says(
    tmp_path: Path, examples: dict[str, list[str]], candidate: dict[str, float], failed: list[str]
) -> None:
    assert examples["facts"] == examples["facts_3shot"]
    base = {"facts": 0.01, "facts_3shot": 0.3 if failed != [ON_EXAMPLES] else 0.85}
    verdict = decide(
        report(tmp_path / "candidate", examples, candidate),
        {"base": report(tmp_path / "base", examples, base)},
        demo().policy,
        "gptj-demo",
    )
    assert verdict.passed is not bool(failed)
    assert [rule.name for rule in verdict.rules if not rule.passed] == failed
