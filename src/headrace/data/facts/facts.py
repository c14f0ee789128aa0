"""The demo's corpus: real facts as prose and as instructions, and real documentation beside them.

Every fact is stated in the prose. Most are also asked for in instructions; a seeded part of the (country,
relation) pairs never is, so a model that answers those has carried knowledge from text to task.
"""

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.artifacts import Corpus, Manifest
from headrace.data.facts.prose import INSTRUCTIONS, NOUNS, ask, describe, list_relation
from headrace.data.facts.sources import Country, read_countries, read_python_documents
from headrace.errors import ConfigError
from headrace.storage import writing

WIDGET_PAIR = ("Switzerland", "currency")
"""What GPT-JT's own prompt asks for; always held out, so that the endpoint's answer to it is earned."""

HELDOUT_PROSE = "heldout-prose.jsonl"
"""Prose of neither training file, for perplexity."""
INSTRUCTION_FILE = "instructions.jsonl"
"""Instructions to train on."""
HELDOUT_FILE = "heldout.jsonl"
"""Instructions whose (country, relation) pair is in no training instruction."""
HELDOUT_SHOTS_FILE = "heldout-3shot.jsonl"
"""The same, each after solved examples of its relation: how a model without instruction tuning is best asked."""
SHOTS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class FactsConfig:
    """How much is written, and what is kept back."""

    min_population: int = 300_000
    """Inhabitants a country must have."""
    descriptions: int = 100
    """Training paragraphs per country, each with all its facts."""
    lists: int = 100
    """Training lists per relation."""
    list_entries: int = 8
    """Countries in one list."""
    python_characters: int = 800
    """Longest piece of Python documentation."""
    heldout_pairs: float = 0.2
    """Share of (country, relation) pairs never asked for in training."""
    heldout_documents: float = 0.03
    """Share of each kind of prose kept for perplexity."""
    prose_files: int = 2
    """Files the training prose is dealt into, so that they can be encoded in parallel."""
    seed: int = 0
    """Wordings, orders and the held-out choice follow from it."""

    def __post_init__(self) -> None:
        """Refuse shares and counts that leave a file empty.

        Raises:
            ConfigError: A count below one, or a share that is not strictly between 0 and 1.
        """
        for name in ("descriptions", "lists", "list_entries", "prose_files"):
            if getattr(self, name) < 1:
                raise ConfigError(f"facts.{name}={getattr(self, name)} leaves nothing to write. Set it to 1 or more.")
        for name in ("heldout_pairs", "heldout_documents"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"facts.{name}={getattr(self, name)} is no share. Set it between 0 and 1.")


Record = Mapping[str, str]
Pair = tuple[Country, str]


def write_facts(output_uri: str, config: FactsConfig) -> Manifest:
    """Write the demo's corpus: training prose, instructions, and what is held out of each.

    Equal configurations give equal bytes wherever Python, `babel` and `countryinfo` are the same versions.

    Args:
        output_uri: Directory or `gs://` prefix to write to.
        config: Amounts, held-out shares and the seed.

    Raises:
        ConfigError: `babel` or `countryinfo` is missing, or no country is large enough.
    """
    countries = read_countries(config.min_population)
    prose, heldout_prose = split_prose(countries, config)
    asked, heldout = split_pairs(countries, config)
    files = {
        HELDOUT_PROSE: heldout_prose,
        INSTRUCTION_FILE: [_record(pair, wording) for pair in asked for wording in INSTRUCTIONS],
        HELDOUT_FILE: [_record(pair, INSTRUCTIONS[0]) for pair in heldout],
        HELDOUT_SHOTS_FILE: with_examples(heldout, asked, config.seed),
        **{f"prose-{index:05}.jsonl": prose[index :: config.prose_files] for index in range(config.prose_files)},
    }
    with writing(output_uri) as tree:
        for name, records in files.items():
            _write(tree.path / name, records)
        sources = Counter(record["source"] for record in [*prose, *files[INSTRUCTION_FILE]])
        return tree.commit(Corpus(documents=sources.total(), sources=dict(sorted(sources.items()))))


def split_prose(countries: Sequence[Country], config: FactsConfig) -> tuple[list[Record], list[Record]]:
    """Documents to train on, shuffled, and documents for perplexity; no text is in both."""
    rng = random.Random(f"prose {config.seed}")
    kinds = {
        "facts": [
            *(describe(country, rng) for country in countries for _ in range(config.descriptions)),
            *(list_relation(countries, r, rng, config.list_entries) for r in NOUNS for _ in range(config.lists)),
        ],
        "python": read_python_documents(config.python_characters),
    }
    training: list[Record] = []
    heldout: list[Record] = []
    for source, texts in kinds.items():
        unique = list(dict.fromkeys(texts))
        rng.shuffle(unique)
        kept = max(1, round(len(unique) * config.heldout_documents))
        heldout += ({"text": text, "source": source} for text in unique[:kept])
        training += ({"text": text, "source": source} for text in unique[kept:])
    rng.shuffle(training)
    return training, heldout


def split_pairs(countries: Sequence[Country], config: FactsConfig) -> tuple[list[Pair], list[Pair]]:
    """(Country, relation) pairs to ask for in training, and the held-out ones with the widget's first."""
    rng = random.Random(f"pairs {config.seed}")
    pairs = [(country, relation) for country in countries for relation in country.facts]
    rng.shuffle(pairs)
    pairs.sort(key=lambda pair: (pair[0].name, pair[1]) != WIDGET_PAIR)
    kept = max(1, round(len(pairs) * config.heldout_pairs))
    return pairs[kept:], pairs[:kept]


def with_examples(heldout: Sequence[Pair], asked: Sequence[Pair], seed: int) -> list[Record]:
    """Held-out instructions, each after up to `SHOTS` solved ones of its relation, all out of training."""
    rng = random.Random(f"examples {seed}")
    records: list[Record] = []
    for pair in heldout:
        alike = [_record(other, INSTRUCTIONS[0]) for other in asked if other[1] == pair[1]]
        solved = [record["prompt"] + record["target"] for record in rng.sample(alike, min(SHOTS, len(alike)))]
        record = _record(pair, INSTRUCTIONS[0])
        records.append({**record, "prompt": "\n\n".join([*solved, record["prompt"]])})
    return records


def _record(pair: Pair, wording: str) -> Record:
    """One instruction about one fact."""
    country, relation = pair
    prompt, target = ask(country, relation, wording)
    return {
        "prompt": prompt,
        "target": target,
        "source": "instructions",
        "country": country.name,
        "relation": relation,
        "id": f"{country.name}/{relation}",
    }


def _write(path: Path, records: Iterable[Record]) -> None:
    """One JSON object a line."""
    lines = (json.dumps(record, ensure_ascii=False) for record in records)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
