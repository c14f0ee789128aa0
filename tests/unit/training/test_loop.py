import json
import os
import pty
import subprocess
import sys
import textwrap
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from headrace import checkpoints, storage
from headrace.artifacts import MODEL_FILE, OPTIMIZER_FILE, TOKENIZER_FILE, Checkpoint, Corpus
from headrace.config import encode
from headrace.data.loader import BatchStream
from headrace.data.vocabulary import SpecialTokens
from headrace.errors import ConfigError, IntegrityError, MismatchError, TrainingError, UnavailableError
from headrace.models.gptj import GPTJ
from headrace.provenance import Given, Stage, stages_of
from headrace.tracking import Tracker
from headrace.training.inputs import open_inputs
from headrace.training.loop import train
from headrace.training.run import Run
from headrace.training.step import take_step


class Recorder(Tracker):
    def __init__(self) -> None:
        self.measured: list[tuple[int | None, dict]] = []
        self.lines: list[tuple[str, float | None]] = []

    def metrics(self, values, step=None) -> None:
        self.measured.append((step, dict(values)))

    def progress(self, text, fraction=None) -> None:
        self.lines.append((text, fraction))


def losses(workspace: Path) -> list[dict]:
    (path,) = workspace.glob("*/losses.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Recorder]:
    """Output, workspace and tracker of one run."""
    root, tracker = tmp_path_factory.mktemp("trained"), Recorder()
    train(**tiny.arguments(root / "out", root / "work"), tracker=tracker)
    return root / "out", root / "work", tracker


def test_what_is_sealed_says_how_it_came_to_be(tiny, trained) -> None:
    out, work, _ = trained
    stored = storage.read(out, Checkpoint)
    lines, facts = losses(work), stored.facts
    assert [line["step"] for line in lines] == list(range(1, 21))
    assert (facts.step, facts.mask, facts.model) == (20, "prefix", encode(tiny.config.model))
    assert facts.config == encode(tiny.config)
    assert facts.tokens_seen == sum(line["tokens"] for line in lines) > facts.labels_seen
    assert facts.labels_seen == sum(line["labels"] for line in lines)
    total = sum(line["loss"] * line["labels"] for line in lines)
    assert facts.loss == pytest.approx(total / facts.labels_seen)
    assert facts.tokenizer == storage.hash_file(out / TOKENIZER_FILE)
    shards = {f"shards_{name}": storage.read_manifest(uri).digest for name, uri in tiny.sources.items()}
    assert stored.manifest.parents == shards | {"tokenizer": storage.read_manifest(tiny.tokenizer).digest}


def test_training_lowers_the_loss(trained) -> None:
    lines = losses(trained[1])
    assert np.mean([line["loss"] for line in lines[-4:]]) < 0.8 * lines[0]["loss"]


def test_metrics_and_progress_reach_the_tracker(trained) -> None:
    _, work, tracker = trained
    measured = [(step, values) for step, values in tracker.measured if "loss" in values]
    assert [step for step, _ in measured] == [5, 10, 15, 20]
    told = {
        "loss",
        "learning_rate",
        "grad_norm",
        "tokens_per_second",
        "cut/asked",
        "skipped/asked",
        "data/wait_seconds",
    }
    told |= {"throughput/flops_per_second", "throughput/mfu", "memory/peak_bytes"}
    assert all(values.keys() == told for _, values in measured)
    assert measured[0][1]["loss"] == losses(work)[4]["loss"]
    assert all(values["data/wait_seconds"] > 0 for _, values in measured)
    assert tracker.lines[0][1] == 0.05
    text, fraction = tracker.lines[-1]
    assert text.startswith("step 20/20 · loss ")
    assert fraction == 1.0


@pytest.mark.parametrize("name", ["checkpoint/stall_seconds", "checkpoint/write_seconds"])
def test_what_each_checkpoint_costs_reaches_the_tracker(name: str, trained) -> None:
    told = {step: values[name] for step, values in trained[2].measured if name in values}
    assert list(told) == [6, 12, 18]
    assert all(seconds > 0 for seconds in told.values())


def test_the_same_arguments_give_the_same_digest_and_others_another(tiny, trained, tmp_path: Path) -> None:
    again = train(**tiny.arguments(tmp_path / "again", tmp_path / "work"), tracker=Tracker())
    assert again.digest == storage.read_manifest(trained[0]).digest
    seeded = tiny.arguments(tmp_path / "seeded", tmp_path / "work", config=replace(tiny.config, seed=1))
    other = train(**seeded, tracker=Tracker())
    assert other.files[MODEL_FILE] != again.files[MODEL_FILE]


def test_a_finished_run_called_again_seals_the_same_without_a_step(tiny, tmp_path: Path) -> None:
    config = replace(tiny.config, steps=6)
    first = train(**tiny.arguments(tmp_path / "a", tmp_path / "work", config=config), tracker=Tracker())
    recorder = Recorder()
    second = train(**tiny.arguments(tmp_path / "b", tmp_path / "work", config=config), tracker=recorder)
    assert first.digest == second.digest
    assert not recorder.lines


def take_one(run: Run) -> None:
    result = take_step(run.model, run.optimizer, next(run.batches()), run.config, run.step + 1)
    run.record(result)


def test_a_run_read_back_has_the_same_random_numbers_data_and_counts(tiny, tmp_path: Path) -> None:
    inputs = open_inputs(tiny.sources, tiny.tokenizer, None, tiny.config)
    run, resumed = Run(inputs, tiny.config), Run(inputs, tiny.config)
    take_one(run)
    torch.rand(3)
    checkpoints.write(tmp_path / "saved", run.contents(resumable=True))
    expected = torch.rand(5)
    resumed.restore(tmp_path / "saved")
    assert torch.equal(torch.rand(5), expected)
    assert (resumed.step, resumed.tokens_seen, resumed.labels_seen) == (1, run.tokens_seen, run.labels_seen)
    straight = BatchStream(inputs.shards, tiny.config.data, SpecialTokens(290, 320), 0)
    straight.next()
    assert np.array_equal(next(resumed.batches()).tokens_BT, straight.next().tokens_BT)


class TestInitialize:
    """Starting from another checkpoint's weights."""

    def one_step(self, tiny, tmp_path: Path, init_uri: Path, **changes) -> None:
        config = replace(tiny.config, steps=1, checkpoint_every_steps=1, **changes)
        arguments = tiny.arguments(tmp_path / "child", tmp_path / "work", config=config, init_uri=str(init_uri))
        train(**arguments, tracker=Tracker())

    def test_takes_the_weights_and_nothing_else(self, tiny, trained, tmp_path: Path) -> None:
        # The first step of a warmup has rate 0, so the child's weights are those it began with.
        self.one_step(tiny, tmp_path, trained[0])
        parent, child = load_file(trained[0] / MODEL_FILE), load_file(tmp_path / "child" / MODEL_FILE)
        assert all(torch.equal(parent[name], child[name]) for name in parent)
        (saved,) = (tmp_path / "work").glob("*/step-00000001")
        moments = load_file(saved / OPTIMIZER_FILE)
        assert {tensor.item() for name, tensor in moments.items() if name.endswith("/step")} == {1.0}
        stored = storage.read(tmp_path / "child", Checkpoint)
        assert stored.facts.step == 1
        assert OPTIMIZER_FILE not in stored.manifest.files  # which nobody needs who does not go on from here
        assert stored.manifest.parents["init"] == storage.read_manifest(trained[0]).digest

    def test_a_child_knows_what_its_parent_was_trained_on(self, tiny, trained, tmp_path: Path) -> None:
        self.one_step(tiny, tmp_path, trained[0])
        first, second = stages_of(storage.read(tmp_path / "child", Checkpoint))
        given = {name: Given(digest=storage.read_manifest(uri).digest) for name, uri in tiny.sources.items()}
        assert first == Stage(init=None, shards=given)
        assert second == Stage(init=storage.read_manifest(trained[0]).digest, shards=given)

    @pytest.mark.parametrize(("key", "value"), [("n_layer", 1), ("vocab_size", 328), ("n_head", 4)])
    def test_refuses_another_architecture_or_vocabulary(self, key: str, value: int, tiny, trained, tmp_path) -> None:
        model = replace(tiny.config.model, **{key: value})
        had = getattr(tiny.config.model, key)
        with pytest.raises(MismatchError, match=rf"parent checkpoint has {key}={had}, and model\.{key}={value}"):
            self.one_step(tiny, tmp_path, trained[0], model=model)

    def test_refuses_another_tokenizer(self, tiny, trained, tmp_path: Path) -> None:
        with storage.writing(tmp_path / "parent") as tree:
            for file in trained[0].glob("*.*"):
                (tree.path / file.name).write_bytes(file.read_bytes())
            (tree.path / "manifest.json").unlink()
            facts = storage.read(trained[0], Checkpoint).facts
            tree.commit(replace(facts, tokenizer="another"))
        with pytest.raises(MismatchError, match=f"tokenizer another, and this run's is {facts.tokenizer}"):
            self.one_step(tiny, tmp_path, tmp_path / "parent")

    def test_refuses_weights_that_are_not_finite(self, tiny, trained, tmp_path: Path) -> None:
        weights = load_file(trained[0] / MODEL_FILE)
        weights["layers.1.qkv.weight"][3, 3] = torch.nan
        with storage.writing(tmp_path / "parent") as tree:
            save_file(weights, tree.path / MODEL_FILE)
            tree.commit(storage.read(trained[0], Checkpoint).facts)
        with pytest.raises(IntegrityError, match=r"NaN or infinity in 'layers\.1\.qkv\.weight'"):
            self.one_step(tiny, tmp_path, tmp_path / "parent")

    def test_refuses_a_parent_with_a_flipped_byte_and_names_the_file(self, tiny, trained, tmp_path: Path) -> None:
        with storage.writing(tmp_path / "parent") as tree:
            (tree.path / MODEL_FILE).write_bytes((trained[0] / MODEL_FILE).read_bytes())
            tree.commit(storage.read(trained[0], Checkpoint).facts)
        data = bytearray((tmp_path / "parent" / MODEL_FILE).read_bytes())
        data[-5] ^= 1
        (tmp_path / "parent" / MODEL_FILE).write_bytes(data)
        with pytest.raises(IntegrityError, match=rf"{MODEL_FILE} is altered"):
            self.one_step(tiny, tmp_path, tmp_path / "parent")


class TestRefusals:
    """Before the first step, and with nothing sealed."""

    def refused(self, tiny, tmp_path: Path, error: type[Exception], match: str, **changes) -> None:
        with pytest.raises(error, match=match):
            train(**tiny.arguments(tmp_path / "out", tmp_path / "work", **changes), tracker=Tracker())
        assert not (tmp_path / "out").exists()
        assert not list(tmp_path.glob("work/*/losses.jsonl"))

    def test_shards_of_another_tokenizer(self, tiny, tmp_path: Path) -> None:
        from headrace.data.tokenizer import TokenizerConfig, train_tokenizer

        train_tokenizer([str(tiny.root / "asked")], tmp_path / "other", TokenizerConfig(vocabulary=280))
        self.refused(tiny, tmp_path, MismatchError, "was encoded by tokenizer", tokenizer_uri=str(tmp_path / "other"))

    def test_a_vocabulary_without_a_row_for_every_id(self, tiny, tmp_path: Path) -> None:
        self.refused(tiny, tmp_path, ConfigError, "270 embedding rows", config=tiny.with_model(vocab_size=270))

    def test_sources_the_configuration_does_not_name(self, tiny, tmp_path: Path) -> None:
        mixture = tiny.config.data.sources
        renamed = {"proze" if name == "prose" else name: source for name, source in mixture.items()}
        config = tiny.with_data(sources=renamed)
        self.refused(tiny, tmp_path, ConfigError, "'proze'.* Did you mean 'prose'", config=config)

    def test_an_artifact_of_another_kind(self, tiny, tmp_path: Path) -> None:
        with storage.writing(tmp_path / "corpus") as tree:
            tree.commit(Corpus(documents=0, sources={}))
        sources = tiny.sources | {"prose": str(tmp_path / "corpus")}
        self.refused(tiny, tmp_path, MismatchError, "is of kind corpus", sources=sources)

    def test_an_output_that_cannot_be_written(self, tiny, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        self.refused(tiny, tmp_path, ConfigError, "cannot be written", output_uri=str(tmp_path / "file" / "deep"))

    def test_a_disk_without_room_for_a_checkpoint(self, tiny, tmp_path: Path, monkeypatch) -> None:
        left = namedtuple("Usage", "free")(100_000)
        monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda _: left)
        parameters = sum(p.numel() for p in GPTJ(tiny.config.model).parameters())
        said = rf"takes {12 * parameters / 1e6:,.1f} MB, and the disk of .* has 0\.1 MB left"
        self.refused(tiny, tmp_path, UnavailableError, said)

    def test_a_missing_input(self, tiny, tmp_path: Path) -> None:
        self.refused(tiny, tmp_path, IntegrityError, "nowhere", init_uri=str(tmp_path / "nowhere"))


def test_a_loss_that_explodes_ends_the_run_with_nothing_sealed(tiny, tmp_path: Path) -> None:
    schedule = replace(tiny.config.schedule, kind="constant", peak=1e30, warmup_steps=0)
    arguments = tiny.arguments(tmp_path / "out", tmp_path / "work", config=replace(tiny.config, schedule=schedule))
    with pytest.raises(TrainingError, match=r"Step \d has (loss|grad_norm)=(nan|inf)"):
        train(**arguments, tracker=Tracker())
    assert not (tmp_path / "out").exists()


def test_a_terminal_is_shown_a_bar(tiny, tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys
        from headrace.training.progress import Bar
        from headrace.training.step import StepResult
        bar = Bar(4)
        for step in range(1, 5):
            bar.after_step(StepResult(step=step, loss=2.5, grad_norm=1, learning_rate=1, labels=1, tokens=9))
        bar.close()
    """)
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.run([sys.executable, "-c", script], stderr=theirs, env=environment, check=True)
    os.close(theirs)
    shown = os.read(ours, 2**16).decode()
    assert process.returncode == 0
    assert "step 4/4 · loss 2.500" in shown
