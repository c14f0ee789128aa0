"""The page of an evaluation: every metric with its error, beside what others have published, and some answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.artifacts import EvalReport, Metric
from headrace.evaluation.confusion import Confusion
from headrace.evaluation.scores import Example
from headrace.pages.charts import Bar, bars
from headrace.pages.document import document, section, tiles
from headrace.pages.markup import Html, element, table
from headrace.pages.published import COLUMNS, GPT_J, ROWS

ANSWERS = 8
"""Examples of each task that are shown."""
WORDS_SHOWN = 300
PERPLEXITIES = ("perplexity", "bits_per_byte")


def page(
    report: EvalReport,
    details: Mapping[str, Any],
    examples: Mapping[str, Sequence[Example]],
    confusions: Mapping[str, Confusion],
) -> str:
    """The whole document.

    Args:
        report: The metrics.
        details: What was asked, as `evaluation.json` has it.
        examples: Scores of each task.
        confusions: Answers by what was right, of tasks where that can be counted.
    """
    parts = (
        _tiles(report, details),
        _shares(report, details),
        _beside(report, details),
        *(_text(report, name, details["config"]["tasks"]) for name in details["config"]["perplexity"]),
        _metrics(report),
        *(_confused(name, one) for name, one in confusions.items()),
        *(_answers(name, examples[name]) for name in details["config"]["tasks"]),
    )
    asked = f"Checkpoint {report.checkpoint}, evaluation {report.data}, lm-eval {details['lm_eval']}"
    return document("Evaluation", parts, asked)


def _tiles(report: EvalReport, details: Mapping[str, Any]) -> Html:
    seen = "prompts are seen whole" if report.mask == "prefix" else "each token sees those before it"
    cut = f"{details['truncated_tokens']:,} tokens were cut from the left"
    before = "before every context" if details["config"]["bos_eos"] else "before empty contexts only"
    return tiles(
        [
            ("Checkpoint", report.checkpoint[:12], ""),
            ("Mask", report.mask, seen),
            ("End of text", "always" if details["config"]["bos_eos"] else "as needed", f"<|endoftext|> {before}"),
            ("Too long", f"{details['truncated_requests']:,}", cut),
        ]
    )


def _shares(report: EvalReport, details: Mapping[str, Any]) -> Html:
    """Metrics between 0 and 1, GPT-J's marked where it is known."""
    kinds = _kinds(details)
    rows = []
    for name, metric in report.metrics.items():
        task, _, leaf = name.rpartition("/")
        if leaf not in PERPLEXITIES:
            known = (kinds.get(task, ""), leaf) in COLUMNS
            mark = GPT_J.value(kinds[task], leaf) if known else None
            rows.append(Bar(name, metric.value, f"{_percent(metric)}", mark=mark))
    words = "Shares of examples, ± one standard error. A line across a bar is GPT-J-6B as published."
    chart = element("div", bars(rows, "Shares by metric"), class_="card")
    return section("Accuracy", words, chart) if rows else Html()


def _beside(report: EvalReport, details: Mapping[str, Any]) -> Html:
    """One row for this checkpoint and one for each published model."""
    tasks: dict[str, str] = {}
    for task, kind in _kinds(details).items():
        tasks.setdefault(kind, task)
    measured = {key: report.metrics.get(f"{tasks.get(key[0])}/{key[1]}") for key in COLUMNS}
    if not any(measured.values()):
        return Html()
    ours = ("this checkpoint", *(_cell(key, metric) for key, metric in measured.items()))
    theirs = [(row.model, *(_number(key, row.value(*key)) for key in COLUMNS)) for row in ROWS]
    caption = "Zero-shot, on whole data sets. Source: model card of GPT-J-6B; GPT-3 by size from its authors."
    heads = ("Model", *COLUMNS.values())
    return section(
        "Beside published models",
        _unlike(details, [tasks[kind] for kind, _ in COLUMNS if kind in tasks]),
        table(heads, [ours, *theirs], caption, numbers=range(1, len(heads))),
    )


def _unlike(details: Mapping[str, Any], tasks: Sequence[str]) -> str:
    """In what the evaluation differs from the published ones, as far as its settings tell."""
    config = details["config"]
    asked = [config["tasks"][task] for task in tasks]
    differences = [
        *(["<|endoftext|> is not put before every context"] if not config["bos_eos"] else []),
        *(["some tasks are limited to their first examples"] if any(task["limit"] for task in asked) else []),
        *(["some prompts show solved examples"] if any(task["num_fewshot"] for task in asked) else []),
    ]
    said = f"Unlike GPT-J's: {', '.join(differences)}. " if differences else "Asked as GPT-J was. "
    return f"{said}Whether the data are the whole sets, n tells. HellaSwag and PIQA are normalised by length."


def _text(report: EvalReport, name: str, tasks: Mapping[str, Any]) -> Html:
    """Held-out text as a whole and by source, such as the subsets of the Pile."""
    measured = {key.rpartition("/")[0] for key in report.metrics} - tasks.keys()
    parts = sorted(part for part in measured if part == name or part.startswith(f"{name}."))
    perplexities, bits = ([report.metrics[f"{part}/{leaf}"] for part in parts] for leaf in PERPLEXITIES)
    mark = perplexities[0].value if len(parts) > 1 else None
    told = zip(parts, perplexities, bits, strict=True)
    rows = [(part, _with_error(one), _with_error(other), f"{one.n:,}") for part, one, other in told]
    chart = [Bar(part, one.value, _with_error(one), mark=mark) for part, one in zip(parts, perplexities, strict=True)]
    words = "Each document is read after <|endoftext|>; errors are over documents. Lower is better."
    heads = ("Text", "Perplexity per token", "Bits per byte", "Documents")
    caption = f"The whole and {len(parts) - 1} sources" if mark else "The whole"
    return section(
        f"{name}: perplexity",
        f"{words} The line across the bars is the whole text." if mark else words,
        element("div", bars(chart, f"{name}, perplexity by source"), class_="card"),
        table(heads, rows, caption, numbers=range(1, len(heads))),
    )


def _with_error(metric: Metric) -> str:
    return f"{metric.value:.4f} ± {metric.stderr:.4f}"


def _metrics(report: EvalReport) -> Html:
    rows = [
        (name, f"{m.value:.4f}", f"{m.stderr:.4f}", f"{m.n:,}", "higher" if m.higher_is_better else "lower")
        for name, m in report.metrics.items()
    ]
    heads = ("Metric", "Value", "Standard error", "n", "Better")
    return section(
        "Metrics",
        "Standard errors are over examples, of perplexities over documents.",
        table(heads, rows, f"{len(rows)} metrics", numbers=range(1, 4)),
    )


def _confused(name: str, found: Confusion) -> Html:
    heads = ("Right", *(f"said {label}" for label in found.labels))
    rows = [(label, *counts) for label, counts in zip(found.labels, found.counts, strict=True)]
    counted = table(heads, rows, f"{name}: {sum(map(sum, found.counts)):,} answers", numbers=range(1, len(heads)))
    return section(f"{name}: answers", "Rows are what was right, columns what was answered.", counted)


def _answers(name: str, examples: Sequence[Example]) -> Html:
    rows = [
        (_end(one.prompt), one.target, "–" if one.prediction is None else one.prediction, _scores(one))
        for one in examples[:ANSWERS]
    ]
    shown = table(
        ("Prompt", "Target", "Answer", "Scores"), rows, f"The first {len(rows)} of {len(examples):,} examples"
    )
    return section(f"{name}: examples", "All are in the report's Parquet files.", shown)


def _scores(one: Example) -> str:
    return ", ".join(f"{metric} {score:.3g}" for metric, score in one.scores.items())


def _end(text: str) -> str:
    return text if len(text) <= WORDS_SHOWN else f"…{text[-WORDS_SHOWN:]}"


def _kinds(details: Mapping[str, Any]) -> dict[str, str]:
    return {name: task["kind"] for name, task in details["config"]["tasks"].items()}


def _cell(key: tuple[str, str], metric: Metric | None) -> str:
    if metric is None:
        return "–"
    text = f"{metric.value:.2f} ± {metric.stderr:.2f}" if key[1] == "perplexity" else _percent(metric)
    return f"{text} (n {metric.n:,})"


def _number(key: tuple[str, str], value: float) -> str:
    return f"{value:.2f}" if key[1] == "perplexity" else f"{100 * value:.1f}\u00a0%"


def _percent(metric: Metric) -> str:
    return f"{100 * metric.value:.1f} ± {100 * metric.stderr:.1f}\u00a0%"
