"""The quick start of GPT-JT's model card, word for word, on an exported directory that lies on a hub.

transformers asks the hub which task a model is for, even of a directory: there the task has to be named. The hub here
is a small server of the three questions that transformers puts to one.
"""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import yaml

from headrace.cli.app import run_app
from headrace.data.tokenizer import load_tokenizer
from headrace.models.generation import generate
from headrace.models.pretrained import load
from tests.serving_checkpoint import write_checkpoint

PROMPT = '"I love this!" Is it positive? A:'
QUICK_START = f"""
import sys
sys.modules["headrace"] = None
from transformers import pipeline
pipe = pipeline(model='mill/wheel'OPTIONS)
print(pipe('''{PROMPT}''')[0]["generated_text"])
"""
REVISION = "a" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """One model, `mill/wheel`; what it is for is in the front matter of its card."""

    folder: Path

    def do_GET(self) -> None:
        data = self.told()
        self.send_response(404 if data is None else 200)
        if data is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", str(len(data or b"")))
        self.send_header("X-Repo-Commit", REVISION)
        # The client names a file of its cache by this: a path would lead out of it, and outlive the test.
        self.send_header("ETag", f'"{hashlib.sha256(data or b"").hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data or b"")

    do_HEAD = do_GET

    def told(self) -> bytes | None:
        file = self.folder / self.path.rpartition("/")[2]
        if "/resolve/" in self.path and file.is_file():
            return file.read_bytes()
        if self.path != "/api/models/mill/wheel":
            return None
        front = yaml.safe_load((self.folder / "README.md").read_text().split("---")[1])
        about = {key: front[key] for key in ("pipeline_tag", "library_name")}
        return json.dumps({"id": "mill/wheel", "sha": REVISION, "siblings": [], **about}).encode()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    write_checkpoint(tmp_path / "ours", "prefix")
    assert run_app(["convert", "export", str(tmp_path / "ours"), str(tmp_path / "wheel")]) == 0
    handler = type("Exported", (Hub,), {"folder": tmp_path / "wheel"})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(("options", "mask"), [("", "causal"), (", trust_remote_code=True", "prefix")])
def test_the_quick_start_of_gpt_jt_loads_what_was_exported(
    options: str, mask: Literal["causal", "prefix"], hub: str, tmp_path: Path
) -> None:
    theirs = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHONPATH"))}
    done = subprocess.run(
        [sys.executable, "-c", QUICK_START.replace("OPTIONS", options)],
        env={**theirs, "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    pretrained = load(tmp_path / "ours")
    tokenizer = load_tokenizer(pretrained.tokenizer_file)
    wanted = generate(pretrained.model, [tokenizer.encode(PROMPT)], mask=mask, max_new_tokens=5)[0]
    assert done.stdout == f"{PROMPT}{tokenizer.decode(wanted)}\n"
    warned = "without trust_remote_code=True, this model reads its prompt from left to right" in done.stderr
    assert warned == (mask == "causal")
    assert "not supported" not in done.stderr
