"""Pages that a step hands over: single files, told from altered ones by what was noted of them."""

import hashlib
from pathlib import Path
from typing import Any


def write_page(page: Any, text: str) -> None:
    """Write a page, and note the SHA-256 of its bytes.

    Args:
        page: A `dsl.HTML` or `dsl.Markdown`, or anything with `path` and `metadata`.
        text: The whole page.
    """
    data = text.encode("utf-8")
    Path(page.path).write_bytes(data)
    page.metadata["sha256"] = hashlib.sha256(data).hexdigest()
