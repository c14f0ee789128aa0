"""The harness's tasks from local files: what they ask, what they score, and whom they agree with."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lm_eval.api.metrics import mean_stderr

from headrace.data.tokenizer import TextTokenizer, TokenizerConfig, load_tokenizer, train_tokenizer
from headrace.errors import DataError
from headrace.evaluation.config import TaskConfig
from headrace.evaluation.examples import common_start
from headrace.evaluation.tasks import HeadraceLM, build_task, run_task
from headrace.models.gptj import GPTJ, GPTJConfig

REAL = Path(__file__).parents[4] / "shared" / "data" / "eval"
LOCAL = {
    "lambada_openai": [{"text": f"The river carries water to the {word}"} for word in ("wheel", "roof", "cage", "man")],
    "hellaswag": [
        {
            "activity_label": "Roof repair",
            "ctx_a": "A man is [step] sitting on a roof.",
            "ctx_b": "the man",
            "endings": [f"starts {n} times.", "is on a roof.", "turns [substeps] the wheel.", "pulls up roofing."],
            "label": n % 4,
        }
        for n in range(5)
    ],
    "winogrande": [
        {"sentence": f"Ian ate {n} and _ paid.", "option1": "Ian", "option2": "Dennis", "answer": str(n % 2 + 1)}
        for n in range(6)
    ],
    "mmlu": [
        {"question": f"{n} + 1?", "subject": "abstract_algebra", "choices": ["1", "2", "3", "4"], "answer": n}
        for n in range(4)
    ],
    "piqa": [
        {"goal": f"cage {n}", "sol1": "ripped paper", "sol2": "water and a wheel", "label": n % 2} for n in range(6)
    ],
}
INSTRUCTIONS = [
    {"prompt": f"Input: {c} Output:", "target": f" {c[:3]} krone"} for c in ("Norway", "Zürich", "Malta", "Oman")
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("data")
    for name, rows in (*LOCAL.items(), ("instructions", INSTRUCTIONS), ("heldout", INSTRUCTIONS[:2])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {path.stem: str(path) for path in folder.iterdir()}


def asked(config: TaskConfig, data: dict[str, str], folder: Path, seed: int = 0) -> list[tuple[str, str]]:
    """Contexts and continuations that a task would ask about."""
    task = build_task("task", config, data, folder, seed=seed)
    task.build_all_requests()
    return [instance.args for instance in task.instances]


def test_each_task_asks_what_the_harness_defines(data: dict[str, str], tmp_path: Path) -> None:
    """Written out by hand from the harness's YAML and preprocessing."""
    first = {kind: asked(TaskConfig(kind=kind, data=kind), data, _made(tmp_path / kind)) for kind in LOCAL}
    assert first["lambada_openai"][0] == ("The river carries water to the", " wheel")
    query = "Roof repair: A man is sitting on a roof. The man"
    assert first["hellaswag"][:3] == [
        (query, " starts 0 times."),
        (query, " is on a roof."),
        (query, " turns the wheel."),
    ]
    assert first["winogrande"][:2] == [("Ian ate 0 and Ian", " paid."), ("Ian ate 0 and Dennis", " paid.")]
    opening = "The following are multiple choice questions (with answers) about abstract algebra.\n\n"
    assert first["mmlu"][1] == (f"{opening}0 + 1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:", " B")
    assert first["piqa"][1] == ("Question: cage 0\nAnswer:", " water and a wheel")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("kind", list(LOCAL))
def test_accuracies_are_those_of_the_harness_own_model(
    model: GPTJ, tokenizer: TextTokenizer, theirs: Any, data: dict[str, str], tmp_path: Path, kind: str
) -> None:
    from lm_eval.evaluator import evaluate

    config = TaskConfig(kind=kind, data=kind)
    ours = run_task(HeadraceLM(model, tokenizer), kind, config, data)
    task = build_task(kind, config, data, tmp_path)
    expected = evaluate(theirs, {"tasks": {kind: task}}, bootstrap_iters=0)["results"][kind]
    for name, metric in ours.metrics.items():
        assert metric.value == pytest.approx(expected[f"{name},none"], rel=1e-4)
    samples = {example.id.partition("-")[0]: example for example in ours.examples}
    assert len(samples) == len(LOCAL[kind])


def test_choices_are_scored_as_their_loglikelihoods_say(
    model: GPTJ, tokenizer: TextTokenizer, data: dict[str, str]
) -> None:
    result = run_task(HeadraceLM(model, tokenizer, "prefix"), "h", TaskConfig(kind="hellaswag", data="hellaswag"), data)
    for example, row in zip(result.examples, LOCAL["hellaswag"], strict=True):
        assert example.choices is not None and len(example.loglikelihoods) == 4
        best = int(np.argmax(example.loglikelihoods))
        lengths = [len(choice) - 1 for choice in example.choices]  # the harness counts no space before an ending
        best_norm = int(np.argmax(np.array(example.loglikelihoods) / lengths))
        assert example.prediction == example.choices[best]
        assert example.target == example.choices[int(row["label"])]
        assert example.scores == {"acc": best == row["label"], "acc_norm": best_norm == row["label"]}


def test_standard_errors_are_the_harness_own(model: GPTJ, tokenizer: TextTokenizer, data: dict[str, str]) -> None:
    result = run_task(HeadraceLM(model, tokenizer), "w", TaskConfig(kind="winogrande", data="winogrande"), data)
    scores = [example.scores["acc"] for example in result.examples]
    assert result.metrics["acc"].stderr == pytest.approx(mean_stderr(scores))
    assert result.metrics["acc"].n == 6


def test_prompts_of_winogrande_and_their_choices_make_whole_sentences(
    model: GPTJ, tokenizer: TextTokenizer, data: dict[str, str]
) -> None:
    result = run_task(HeadraceLM(model, tokenizer), "w", TaskConfig(kind="winogrande", data="winogrande"), data)
    second = result.examples[1]
    assert (second.prompt, second.choices, second.target) == (
        "Ian ate 1 and ", ["Ian paid.", "Dennis paid."], "Dennis paid."
    )  # fmt: skip
    assert common_start(["one", "one"]) == "one"
    assert common_start(["a bc d", "a be d"]) == "a "


def test_exact_match_compares_the_first_line_without_its_whitespace(
    model: GPTJ, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    """What the model says greedily is made the target of every other example, padded with whitespace."""
    from headrace.models.generation import generate

    prompts = [f"Input: {country} Output:" for country in ("Norway", "Zürich", "Malta", "Oman")]
    said = [generate(model, [tokenizer.encode(p)], mask="prefix", max_new_tokens=6)[0] for p in prompts]
    lines = [tokenizer.decode(ids).split("\n")[0] for ids in said]
    rows = [
        {"prompt": prompt, "target": f"  {line} " if n % 2 else f"{line}x"}
        for n, (prompt, line) in enumerate(zip(prompts, lines, strict=True))
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = TaskConfig(kind="exact_match", data="a", max_gen_tokens=6)
    result = run_task(HeadraceLM(model, tokenizer, "prefix"), "facts", config, {"a": str(tmp_path / "a.jsonl")})
    assert [example.scores["exact_match"] for example in result.examples] == [0, 1, 0, 1]
    assert [example.prediction for example in result.examples] == [line.strip() for line in lines]
    assert [example.prompt for example in result.examples] == prompts
    assert result.metrics["exact_match"].value == 0.5


def test_solved_examples_stand_before_the_prompt_and_none_is_evaluated(data: dict[str, str], tmp_path: Path) -> None:
    config = TaskConfig(kind="exact_match", data="heldout", num_fewshot=2, fewshot="instructions")
    contexts = [context for context, _ in asked(config, data, _made(tmp_path / "a"))]
    solved = {"Input: Malta Output: Mal krone\n\n", "Input: Oman Output: Oma krone\n\n"}
    for context, prompt in zip(contexts, ["Input: Norway Output:", "Input: Zürich Output:"], strict=True):
        shots = context.removesuffix(prompt)
        assert context != shots and {f"{shot}\n\n" for shot in shots.split("\n\n")[:-1]} == solved
    again = [context for context, _ in asked(config, data, _made(tmp_path / "b"))]
    drawn = [asked(config, data, _made(tmp_path / f"c{n}"), seed=n) for n in range(6)]
    assert contexts == again
    assert len({first for (first, _), _ in drawn}) == 2  # the order of the two is drawn


def test_fewshot_examples_may_stand_before_a_task_of_the_harness(data: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "more.jsonl").write_text(json.dumps({"goal": "jar", "sol1": "twist", "sol2": "eat", "label": 1}) + "\n")
    config = TaskConfig(kind="piqa", data="piqa", num_fewshot=1, fewshot="more")
    contexts = asked(config, {**data, "more": str(tmp_path / "more.jsonl")}, _made(tmp_path / "a"))
    assert contexts[0][0] == "Question: jar\nAnswer: eat\n\nQuestion: cage 0\nAnswer:"


def test_shots_of_mmlu_are_the_first_of_their_file(data: dict[str, str], tmp_path: Path) -> None:
    rows = [{**LOCAL["mmlu"][0], "question": f"{n} - 1?", "answer": "BCD"[n]} for n in range(3)]
    (tmp_path / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = TaskConfig(kind="mmlu", data="mmlu", num_fewshot=2, fewshot="dev")
    contexts = asked(config, {**data, "dev": str(tmp_path / "dev.jsonl")}, _made(tmp_path / "a"))
    choices = "A. 1\nB. 2\nC. 3\nD. 4\nAnswer:"
    shots = f"0 - 1?\n{choices} B\n\n1 - 1?\n{choices} C\n\n"
    assert contexts[0][0].partition("\n\n")[2] == f"{shots}0 + 1?\n{choices}"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"subject": "alchemy"}, "'alchemy', which is no subject"),
        ({"subject": "astronomy"}, "rows of 2 subjects"),
        ({"answer": "E"}, "choices are 0 to 3"),
        ({"choices": ["1"]}, "no list of four texts"),
    ],
)
def test_what_is_no_mmlu_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    rows = [{**LOCAL["mmlu"][0], **changes}, LOCAL["mmlu"][1] | ({} if "2" in words else changes)]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=words):
        build_task("t", TaskConfig(kind="mmlu", data="m"), {"m": str(tmp_path / "m.jsonl")}, _made(tmp_path / "x"))


def test_a_pool_that_gives_the_answers_away_is_refused(data: dict[str, str], tmp_path: Path) -> None:
    config = TaskConfig(kind="exact_match", data="heldout", num_fewshot=1, fewshot="heldout")
    with pytest.raises(DataError, match="leaves 0 examples"):
        build_task("task", config, data, tmp_path)


def test_text_that_looks_like_a_date_or_a_template_stays_text(tmp_path: Path) -> None:
    rows = [{"prompt": f"Day {{{{ {n} }}}}:", "target": f"1990-01-0{n}"} for n in (1, 2)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = build_task(
        "t", TaskConfig(kind="exact_match", data="a"), {"a": str(tmp_path / "a.jsonl")}, _made(tmp_path / "x")
    )
    assert [(task.doc_to_text(doc), task.doc_to_target(doc)) for doc in task.test_docs()] == [
        ("Day {{ 1 }}:", "1990-01-01"), ("Day {{ 2 }}:", "1990-01-02")
    ]  # fmt: skip


def test_a_limit_evaluates_the_first_examples(model: GPTJ, tokenizer: TextTokenizer, data: dict[str, str]) -> None:
    result = run_task(HeadraceLM(model, tokenizer), "p", TaskConfig(kind="piqa", data="piqa", limit=3), data)
    assert [example.prompt for example in result.examples] == [f"Question: cage {n}\nAnswer:" for n in range(3)]


@pytest.mark.skipif(not REAL.exists(), reason="needs the data sets in ../shared, which are not redistributed")
@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("lambada_openai", "lambada/lambada_openai_llmfoundry.jsonl"),
        ("hellaswag", "hellaswag/hellaswag_val.jsonl"),
        ("winogrande", "winogrande/train_xs.jsonl"),
        ("piqa", "piqa/valid.jsonl"),
    ],
)
def test_the_data_sets_run_as_they_are_handed_on(tmp_path: Path, kind: str, file: str) -> None:
    train_tokenizer([], tmp_path / "gpt2", TokenizerConfig(kind="gpt2"))
    model = GPTJ(
        GPTJConfig(vocab_size=50257, n_layer=1, d_model=16, n_head=1, d_ff=16, rotary_dim=4, context_tokens=512)
    ).eval()
    lm = HeadraceLM(model, load_tokenizer(tmp_path / "gpt2"), "prefix")
    result = run_task(lm, kind, TaskConfig(kind=kind, data="file", limit=25), {"file": str(REAL / file)})
    assert {metric.n for metric in result.metrics.values()} == {25}
    assert all(0 <= result.metrics[name].value <= 1 for name in result.metrics if name.startswith("acc"))
