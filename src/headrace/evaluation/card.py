"""The model card of a checkpoint: what it is, how it was trained, what was measured, and what is not known.

Written from sealed artifacts alone, so that it says nothing that nobody measured. The front matter is the
Hugging Face Hub's: licence, datasets, `model-index` with every metric, and examples for its widget.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.artifacts import Checkpoint, EvalReport, Metric
from headrace.config import decode
from headrace.errors import MismatchError
from headrace.models.export import GENERATION
from headrace.models.gptj import GPTJConfig
from headrace.models.size import count_parameters
from headrace.pages.results import results, table
from headrace.storage import Stored


@dataclass(frozen=True, kw_only=True, slots=True)
class CardConfig:
    """What a card says that no artifact knows."""

    name: str = "model"
    """Title of the card and name in the model index."""
    licence: str = "apache-2.0"
    """Identifier of the Hub's list, such as `apache-2.0`."""
    language: str = "en"
    datasets: tuple[str, ...] = ()
    """Their names on the Hub."""
    base_model: str = ""
    """Name on the Hub of what it was finetuned from."""
    examples: tuple[str, ...] = ('"I love this!" Is it positive? A:',)
    """Prompts that the Hub's widget offers."""


def write_card(
    checkpoint: Stored[Checkpoint],
    reports: Sequence[Stored[EvalReport]],
    config: CardConfig,
    unmeasured: str = "Nothing was measured.",
) -> str:
    """Compose the card as Markdown with front matter.

    Args:
        checkpoint: What the card is about.
        reports: Measurements of it; those of one name that several have are taken from the last.
        config: Licence, names and examples.
        unmeasured: What stands for the results where there are none.

    Raises:
        MismatchError: A report is of another checkpoint.
    """
    for report in reports:
        if report.facts.checkpoint != checkpoint.digest:
            raise MismatchError(
                f"{report.path} measures checkpoint {report.facts.checkpoint[:12]}, and the card is about "
                f"{checkpoint.digest[:12]}. Give reports of this checkpoint."
            )
    metrics = {name: metric for report in reports for name, metric in report.facts.metrics.items()}
    facts = checkpoint.facts
    about = (_opening(facts, config), _shape(facts), _training(checkpoint))
    sections = (f"---\n{_front_matter(config, metrics)}\n---", *about, _results(metrics, unmeasured), _limits(facts))
    return "\n\n".join(sections) + "\n"


def _front_matter(config: CardConfig, metrics: Mapping[str, Metric]) -> str:
    """What the Hub reads, as YAML."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=name.rpartition("/")[0],
            dataset_name=name.rpartition("/")[0],
            metric_type=name.rpartition("/")[2],
            metric_name=name,
            metric_value=metric.value,
        )
        for name, metric in metrics.items()
    ]
    data = ModelCardData(
        license=config.licence,
        language=config.language,
        datasets=list(config.datasets) or None,
        base_model=config.base_model or None,
        library_name="transformers",
        pipeline_tag="text-generation",
        inference={"parameters": GENERATION},
        widget=[{"text": example} for example in config.examples],
        model_name=config.name,
        eval_results=results or None,
    )
    return str(data.to_yaml())


def _opening(facts: Checkpoint, config: CardConfig) -> str:
    """What to call it, and how to ask it."""
    whole = facts.mask == "prefix"
    seen = "sees its prompt whole" if whole else "reads from left to right"
    trust = ", trust_remote_code=True" if whole else ""
    return (
        f"# {config.name}\n\nA GPT-J that {seen}.\n\n```python\nfrom transformers import pipeline\n\n"
        f'pipe = pipeline("text-generation", model=DIRECTORY{trust})\npipe({config.examples[0]!r})\n```'
    )


def _shape(facts: Checkpoint) -> str:
    """The architecture, row by row."""
    shape = decode(GPTJConfig, facts.model)
    rows = {
        "parameters": f"{count_parameters(shape).total:,}",
        "layers": shape.n_layer,
        "width": f"{shape.d_model:,}",
        "feed-forward width": f"{shape.d_ff:,}",
        "heads": f"{shape.n_head} of {shape.head_dim}",
        "rotary dimensions": f"{shape.rotary_dim} of each head",
        "context": f"{shape.context_tokens:,} tokens",
        "vocabulary": f"{shape.vocab_size:,}",
        "attention": "bidirectional over the prompt, causal after it" if facts.mask == "prefix" else "causal",
    }
    return "## Architecture\n\n" + table(("", ""), rows.items())


def _training(checkpoint: Stored[Checkpoint]) -> str:
    """How the weights came to be, as far as the checkpoint knows."""
    facts = checkpoint.facts
    rows: dict[str, Any] = {"checkpoint": f"`{checkpoint.digest}`", "tokenizer": f"`{facts.tokenizer}`"}
    if facts.step:
        rows |= {
            "optimizer steps": f"{facts.step:,}",
            "positions trained on": f"{facts.tokens_seen:,}",
            "positions scored": f"{facts.labels_seen:,}",
        }
    if facts.loss is not None:
        rows["training loss at the end"] = f"{facts.loss:.4f} nats a label"
    rows |= {
        f"source `{name}`": f"weight {source['weight']}, objective {source['objective']}"
        for name, source in facts.config.get("data", {}).get("sources", {}).items()
    }
    rows |= {f"made from {role}": f"`{digest}`" for role, digest in checkpoint.manifest.parents.items()}
    return "## Training\n\n" + table(("", ""), rows.items())


def _results(metrics: Mapping[str, Metric], unmeasured: str) -> str:
    return f"## Results\n\n{results(metrics) if metrics else unmeasured}"


def _limits(facts: Checkpoint) -> str:
    """What a reader must not expect."""
    lines = [
        "It predicts likely text, not true text: facts it states need checking.",
        "It was measured on the tasks above and on nothing else; bias and safety were not measured.",
        f"It reads at most {decode(GPTJConfig, facts.model).context_tokens:,} tokens at once.",
    ]
    if facts.mask == "prefix":
        lines.append("Without `trust_remote_code=True` it reads its prompt from left to right and answers worse.")
    return "## Limitations\n\n" + "\n".join(f"- {line}" for line in lines)
