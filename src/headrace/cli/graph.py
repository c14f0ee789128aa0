"""A compiled pipeline, read as the graph it is."""

from collections.abc import Iterator
from typing import Any


def tasks(chain: Any) -> Iterator[Any]:
    """Every task of a compiled pipeline, those within its loops, conditions and exit handlers too."""
    specification = chain.pipeline_spec
    for graph in (specification.root, *specification.components.values()):
        yield from graph.dag.tasks.values()
