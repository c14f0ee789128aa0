"""How facts are said: as prose, in many wordings and both directions, and as instructions.

A model that met a fact in one wording can recite it and little else; met in many wordings, orders and
directions it can be asked for it. Source: Allen-Zhu and Li, arXiv:2309.14316 (knowledge augmentation).
"""

import random
from collections.abc import Sequence

from headrace.data.facts.sources import Country

NOUNS = {
    "capital": "capital",
    "currency": "currency",
    "region": "world region",
    "subregion": "subregion",
    "language": "official language",
    "demonym": "demonym",
    "calling code": "calling code",
    "internet domain": "internet domain",
}
"""How each relation is named in a sentence."""

COMMON = (
    "The {noun} of {country} is {answer}.",
    "{Country} has the {noun} {answer}.",
    "For {country}, the {noun} is {answer}.",
    "As for {country}: its {noun} is {answer}.",
    "{answer} is the {noun} of {country}.",
)
"""Wordings that fit every relation; the last says the answer first."""

SPECIFIC = {
    "capital": (
        "The capital city of {country} is {answer}.",
        "{Country} is governed from its capital, {answer}.",
        "{answer} is the capital city of {country}.",
    ),
    "currency": (
        "In {country}, people pay with the {answer}.",
        "Prices in {country} are given in the {answer}.",
        "The {answer} is the legal tender of {country}.",
    ),
    "region": (
        "{Country} lies in the part of the world called {answer}.",
        "On a map of the world, {country} is found in {answer}.",
        "{answer} is home to {country}.",
    ),
    "subregion": (
        "More exactly, {country} is part of {answer}.",
        "The United Nations count {country} as {answer}.",
        "{answer} includes {country}.",
    ),
    "language": (
        "In {country}, the law is written in {answer}.",
        "Officially, {country} speaks {answer}.",
        "{answer} is spoken officially in {country}.",
    ),
    "demonym": (
        "A person from {country} is called {answer}.",
        "Whoever comes from {country} is {answer}.",
        "{answer} describes someone from {country}.",
    ),
    "calling code": (
        "To telephone {country}, dial {answer}.",
        "Telephone numbers in {country} begin with {answer}.",
        "{answer} reaches {country} by telephone.",
    ),
    "internet domain": (
        "Web addresses in {country} end in {answer}.",
        "On the internet, {country} uses {answer}.",
        "{answer} is the ending of web addresses in {country}.",
    ),
}
"""Wordings of one relation; the last of each says the answer first."""

INSTRUCTIONS = (
    "Return the {noun} of the given country. Input: {name} Output:",
    "Give the {noun} of this country. Input: {name} Output:",
    "What is the {noun} of the given country? Input: {name} Output:",
    "Name the {noun} of the country below.\n\nInput: {name}\nOutput:",
    "You are given a country. Answer with its {noun}.\nInput: {name}\nOutput:",
)
"""Ways to ask, all in the manner of GPT-JT's prompt, which is the first and the one evaluated."""

_ARTICLE = (
    "Bahamas",
    "Central African Republic",
    "Comoros",
    "Dominican Republic",
    "Gambia",
    "Maldives",
    "Netherlands",
    "Philippines",
    "Solomon Islands",
    "United ",
)


def mention(name: str) -> str:
    """The name as it stands inside a sentence, with its article where it takes one."""
    return f"the {name}" if name.startswith(_ARTICLE) else name


def say(country: Country, relation: str, wording: str) -> str:
    """One sentence that states one fact."""
    inside = mention(country.name)
    sentence = wording.format(
        noun=NOUNS[relation],
        country=inside,
        Country=inside[0].upper() + inside[1:],
        answer=country.facts[relation],
    )
    return sentence[0].upper() + sentence[1:]


def describe(country: Country, rng: random.Random) -> str:
    """A paragraph that states every fact of a country, in a random order and random wordings."""
    relations = list(country.facts)
    rng.shuffle(relations)
    return " ".join(say(country, relation, rng.choice(wordings(relation))) for relation in relations)


def list_relation(countries: Sequence[Country], relation: str, rng: random.Random, entries: int) -> str:
    """A list of some countries with one fact each, as an almanac prints it."""
    known = [country for country in countries if relation in country.facts]
    chosen = rng.sample(known, min(entries, len(known)))
    lines = [f"{country.name}: {country.facts[relation]}" for country in chosen]
    return "\n".join([f"{NOUNS[relation].capitalize()} by country", *lines])


def wordings(relation: str) -> tuple[str, ...]:
    """All ways to state a relation."""
    return COMMON + SPECIFIC[relation]


def ask(country: Country, relation: str, instruction: str) -> tuple[str, str]:
    """A prompt and the target a model must continue it with, leading space included."""
    prompt = instruction.format(noun=NOUNS[relation], name=country.name)
    return prompt, f" {country.facts[relation]}"
