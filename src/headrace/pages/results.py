"""What was measured of a model as Markdown, beside what others have published."""

from collections.abc import Iterable, Mapping, Sequence

from headrace.artifacts import Metric
from headrace.pages.published import COLUMNS, ROWS


def results(metrics: Mapping[str, Metric]) -> str:
    """Every metric with its standard error, and those of tasks that carry the harness's names beside published ones.

    Args:
        metrics: By `task/metric`, at least one.
    """
    rows = ((name, f"{m.value:.4f}", f"{m.stderr:.4f}", f"{m.n:,}") for name, m in metrics.items())
    return table(("metric", "value", "standard error", "n"), rows) + _beside_published(metrics)


def _beside_published(metrics: Mapping[str, Metric]) -> str:
    columns = {key: title for key, title in COLUMNS.items() if "/".join(key) in metrics}
    if not columns:
        return ""
    ours = ("this model", *(f"{metrics['/'.join(key)].value:.3f}" for key in columns))
    rows = ((row.model, *(f"{row.value(*key):.3f}" for key in columns)) for row in ROWS)
    return "\n\nBeside the model card of GPT-J-6B:\n\n" + table(("", *columns.values()), (ours, *rows))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines: list[Sequence[object]] = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
