"""Facts and text out of installed packages: countries, and Python's own documentation.

Country facts come from `countryinfo`, names and legal tender from CLDR (`babel`). Where two sources speak of
the same thing a fact is kept only if they agree, so nothing is taught that a second source denies.
"""

import ast
import datetime
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.errors import ConfigError

OUTDATED = frozenset({("BG", "currency"), ("BI", "capital"), ("HK", "capital"), ("KZ", "capital"), ("SZ", "capital")})
"""Facts the world has overtaken since the packages recorded them; they are left out."""

TENDER_DAY = datetime.date(2025, 1, 1)
"""The day whose legal tender is taken, fixed so that tomorrow's corpus is today's."""

PARAGRAPH_CHARACTERS = 200
"""Shorter documentation is mostly signatures; it is left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Country:
    """One country and what the sources agree on."""

    name: str
    """CLDR's English name, such as `Switzerland`."""
    facts: Mapping[str, str]
    """Answer by relation, such as `{"capital": "Bern"}`."""


def read_countries(min_population: int) -> list[Country]:
    """Countries of at least `min_population` inhabitants, sorted by name.

    Raises:
        ConfigError: `babel` or `countryinfo` is not installed, or no country is that large.
    """
    try:
        from babel import Locale
        from countryinfo import CountryInfo, CountryNotFoundError
    except ImportError as error:
        raise ConfigError(
            f"The demo's facts need the package {error.name!r}, which is not installed. "
            "Install the extra: pip install 'headrace[demo]'."
        ) from error
    countries = []
    for code, name in Locale("en").territories.items():
        try:
            record: Mapping[str, Any] = CountryInfo(code).info() if len(code) == 2 and code.isalpha() else {}
        except CountryNotFoundError:
            continue
        if (record.get("population") or 0) >= max(1, min_population):
            countries.append(Country(name=name.split(" (")[0], facts=_facts(code, record)))
    if not countries:
        raise ConfigError(f"No country has min_population={min_population:,} inhabitants. Lower it.")
    return sorted(countries, key=lambda country: country.name)


def _facts(code: str, record: Mapping[str, Any]) -> dict[str, str]:
    """Answers about one country; a relation without one certain, short answer is absent."""
    answers = {
        "capital": record.get("capital"),
        "currency": _currency(code, record.get("currencies") or []),
        "region": record.get("region"),
        "subregion": record.get("subregion"),
        "language": _language(code, record.get("languages") or []),
        "demonym": record.get("demonym"),
        "calling code": _calling_code(record.get("callingCodes") or []),
        "internet domain": _domain(code, record.get("tld") or []),
    }
    certain = {relation: answer for relation, answer in answers.items() if isinstance(answer, str) and answer}
    return {
        relation: answer
        for relation, answer in certain.items()
        if (code, relation) not in OUTDATED and "," not in answer and "/" not in answer
    }


def _currency(code: str, listed: list[str]) -> str | None:
    """The one legal tender CLDR gives today, unless `countryinfo` lists only what CLDR never knew there.

    `countryinfo` also lists accounting units (WIR Euro for Switzerland) and currencies since replaced,
    so its order says nothing; its list still tells when the two speak of different places.
    """
    from babel import Locale
    from babel.numbers import get_territory_currencies

    current: list[str] = get_territory_currencies(code, TENDER_DAY)
    ever = get_territory_currencies(code, datetime.date(1980, 1, 1), TENDER_DAY)
    if len(current) != 1 or not set(listed) & {*current, *ever}:
        return None
    return str(Locale("en").currencies[current[0]])


def _language(code: str, listed: list[str]) -> str | None:
    """The official language where CLDR knows exactly one and `countryinfo` lists it too."""
    from babel import Locale
    from babel.languages import get_official_languages

    official = {tag.partition("_")[0] for tag in get_official_languages(code, regional=False, de_facto=True)}
    if len(official) != 1 or not official <= set(listed):
        return None
    return str(Locale("en").languages[official.pop()])


def _calling_code(listed: list[str]) -> str | None:
    """The international calling code, where there is one and it is a country's own."""
    return f"+{listed[0]}" if len(listed) == 1 and listed[0].isdigit() else None


def _domain(code: str, listed: list[str]) -> str | None:
    """The top-level domain, where it is the ISO code's or, for the United Kingdom, its exception."""
    expected = ".uk" if code == "GB" else f".{code.lower()}"
    return expected if expected in listed else None


def read_python_documents(max_characters: int) -> list[str]:
    """Python's language reference by section and its library's docstrings, each text once, in stable order.

    Args:
        max_characters: Longer texts are cut between paragraphs into several documents.
    """
    from pydoc_data.topics import topics

    texts = [topics[name] for name in sorted(topics)]
    texts += _library_docstrings()
    pieces = (piece for text in texts for piece in _paragraphs(text, max_characters))
    return list(dict.fromkeys(piece for piece in pieces if len(piece) >= PARAGRAPH_CHARACTERS))


def _library_docstrings() -> Iterator[str]:
    """Docstrings of the standard library's own modules, read without importing them."""
    library = Path(sysconfig.get_paths()["stdlib"])
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for path in sorted(library.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, documented) and (docstring := ast.get_docstring(node)):
                yield docstring


def _paragraphs(text: str, max_characters: int) -> Iterator[str]:
    """Cut a text at blank lines into pieces of at most `max_characters`; a longer paragraph is left out."""
    piece = ""
    for paragraph in text.strip().split("\n\n"):
        if len(piece) + len(paragraph) + 2 > max_characters:
            yield piece
            piece = ""
        if len(paragraph) <= max_characters:
            piece = f"{piece}\n\n{paragraph}" if piece else paragraph
    yield piece
