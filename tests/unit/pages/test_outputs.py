"""A page that a step hands over is told from an altered one by what was noted of its bytes."""

import hashlib
from pathlib import Path

import pytest
from kfp import dsl

from headrace.errors import IntegrityError
from headrace.pages.outputs import write_page
from pipelines.caching import confirm


@pytest.mark.parametrize("kind", [dsl.HTML, dsl.Markdown])
def test_a_page_answers_from_the_cache_until_it_is_altered(kind: type, tmp_path: Path) -> None:
    page = kind(name="page", uri=str(tmp_path / "page"))
    write_page(page, "Größe\r\n")
    assert (tmp_path / "page").read_bytes() == "Größe\r\n".encode()
    assert page.metadata["sha256"] == hashlib.sha256("Größe\r\n".encode()).hexdigest()
    confirm(page)
    (tmp_path / "page").write_bytes("Größe\n".encode())
    with pytest.raises(IntegrityError, match="missing or altered"):
        confirm(page)
