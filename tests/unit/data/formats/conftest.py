"""Files of a format, read as a corpus reads them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.data.documents import Document, read_documents
from headrace.data.quarantine import Quarantine


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., tuple[list[Document], list[str]]]:
    """Write content under a name and read it: documents, and faults as `LINE REASON`."""

    def write_and_read(name: str, content: Any, **options: Any) -> tuple[list[Document], list[str]]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = isinstance(content, list) and name.endswith(".jsonl")
        text = "".join(json.dumps(line) + "\n" for line in content) if lines else json.dumps(content)
        path.write_text(content if isinstance(content, str) else text)
        quarantine = Quarantine(1.0)
        documents = list(read_documents(str(path), quarantine=quarantine, **options))
        return documents, [f"{fault.line} {fault.reason}" for fault in quarantine.faults]

    return write_and_read
