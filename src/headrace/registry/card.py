"""The model card of a version: what it is, where it comes from and on what evidence it stands, as Markdown.

It holds nothing that was not measured or sealed: facts of the checkpoint, its lineage, what was measured of it and
the verdict's rules.
"""

from collections.abc import Mapping

from headrace.artifacts import Checkpoint, Rule, Verdict
from headrace.pages.results import results
from headrace.registry.lineage import TAGS
from headrace.registry.reports import report_on_candidate
from headrace.storage import Stored

CARD_FILE = "MODEL_CARD.md"
DESCRIPTION_CHARACTERS = 5000
"""Longest description of a version that MLflow keeps."""


def card(name: str, checkpoint: Stored[Checkpoint], verdict: Stored[Verdict], lineage: Mapping[str, str]) -> str:
    """Write the card.

    Args:
        name: Registered name.
        checkpoint: What is registered.
        verdict: What allowed it, with the report that it rests on.
        lineage: Tags that say where it comes from.
    """
    facts = checkpoint.facts
    mask = {"causal": "each token sees those before it", "prefix": "the prompt is seen whole"}[facts.mask]
    loss = "" if facts.loss is None else f", training loss {facts.loss:.4g} nats a label"
    held = verdict.facts.champion
    report = report_on_candidate(verdict)
    lines = [
        f"# {name}",
        f"Checkpoint `{checkpoint.digest}`, step {facts.step:,}{loss}.",
        f"Trained on {facts.tokens_seen:,} tokens, {facts.labels_seen:,} of them scored. Mask: {mask}; it must be "
        "served so.",
        "## Architecture",
        *_items(facts.model),
        "## Where it comes from",
        *_items({tag.removeprefix("headrace."): lineage[tag] for tag in TAGS if tag in lineage}),
        "## Results",
        results(report.facts.metrics) if report else "The verdict carries no report, so this card knows no results.",
        "## Evidence",
        f"Verdict `{verdict.digest}`, held against {f'champion `{held}`' if held else 'no champion, the first'}.",
        *(_rule(rule) for rule in verdict.facts.rules),
    ]
    return "\n\n".join(line for line in lines if line) + "\n"


def description(text: str) -> str:
    """A card as a version's description, cut at a line where it is too long."""
    if len(text) <= DESCRIPTION_CHARACTERS:
        return text
    more = f"\n… the whole of it is {CARD_FILE} in the run.\n"
    return text[: DESCRIPTION_CHARACTERS - len(more)].rpartition("\n")[0] + more


def _items(values: Mapping[str, object]) -> list[str]:
    return ["\n".join(f"- {name}: `{value}`" for name, value in values.items())]


def _rule(rule: Rule) -> str:
    return f"- {'✓' if rule.passed else '✗'} **{rule.name}**: {rule.reason}"
