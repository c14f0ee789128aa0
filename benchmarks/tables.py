"""Results as a table to read and as JSON to compute with."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """One benchmark's outcome."""

    title: str
    rows: Sequence[Mapping[str, str]]
    """Cells by column, equal columns in every row."""
    notes: Sequence[str] = ()
    """What was done and what was found, a sentence each."""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """Everything measured."""
    picture: str = ""
    """An SVG of it, where there is one."""

    def to_markdown(self) -> str:
        """A heading, the rows and the notes; cells are written as they are."""
        columns = list(self.rows[0]) if self.rows else []
        lines = [columns, ["---"] * len(columns), *([row[name] for name in columns] for row in self.rows)]
        table = [f"| {' | '.join(cells)} |" for cells in lines if columns]
        return "\n".join([f"## {self.title}", "", *table, "", *(f"- {note}" for note in self.notes), ""])


def save(tables: Sequence[Table], machine: Mapping[str, Any], file: Path) -> None:
    """Write the numbers to `file`, a `.json`, and beside it the tables as Markdown and the picture, if any."""
    numbers = {"machine": machine, "results": {table.title: table.numbers for table in tables}}
    file.write_text(json.dumps(numbers, indent=1) + "\n")
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items() if version)
    where = (
        f"{machine['date']}, {machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB, "
        f"Python {machine['python']}, {packages}."
    )
    file.with_suffix(".md").write_text("\n".join([where, "", *(table.to_markdown() for table in tables)]))
    for table in tables:
        if table.picture:
            file.with_suffix(".svg").write_text(table.picture)
