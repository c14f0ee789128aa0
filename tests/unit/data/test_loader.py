import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.config import decode, encode
from headrace.data.batch import Batch
from headrace.data.documents import read_documents
from headrace.data.loader import BatchStream, LoaderConfig, SourceConfig
from headrace.data.shard_files import OpenShards
from headrace.data.shards import ShardConfig, open_shards, write_shards
from headrace.data.tokenizer import TextTokenizer
from headrace.data.vocabulary import SpecialTokens
from headrace.errors import ConfigError, MismatchError

MakeShards = Callable[..., OpenShards]
MIXTURE = {
    "prose": SourceConfig(weight=0.2, objective="causal"),
    "pile": SourceConfig(weight=0.55, objective="ul2"),
    "books": SourceConfig(weight=0.05, objective="prefix"),
    "answers": SourceConfig(weight=0.2, objective="instruction"),
}
CONFIG = LoaderConfig(context_tokens=64, rows=6, sources=MIXTURE, seed=3, window_rows=5)


@pytest.fixture
def shards(shards_of: MakeShards) -> dict[str, OpenShards]:
    random = np.random.default_rng(0)
    plain = {
        name: shards_of(({"text": "".join(chr(97 + n % 26) for n in range(length))} for length in lengths), name)
        for name, lengths in {
            "prose": random.integers(1, 90, 70),
            "pile": random.integers(1, 400, 30),
            "books": [2000, 900, 5],
        }.items()
    }
    pairs = ({"prompt": f"{n}" + "ab" * (n % 30), "target": f"{n}"} for n in range(90))
    return plain | {"answers": shards_of(pairs, "answers")}


def stream_of(
    shards: dict[str, OpenShards], config: LoaderConfig = CONFIG, unused: int = 143, **replica: int
) -> BatchStream:
    first = next(iter(shards.values()))
    special = SpecialTokens(first.vocabulary, first.vocabulary + unused)
    return BatchStream(shards, config, special, first.eos_id, **replica)


def as_bytes(batch: Batch) -> bytes:
    return b"".join(getattr(batch, field.name).tobytes() for field in dataclasses.fields(batch))


def test_batches_have_the_shape_asked_for_and_ids_the_model_has(shards: dict[str, OpenShards]) -> None:
    stream = stream_of(shards)
    for _ in range(30):
        batch = stream.next()
        for array, dtype in (
            (batch.tokens_BT, np.int64),
            (batch.labels_BT, np.int64),
            (batch.segments_BT, np.int32),
            (batch.prefix_BT, np.bool_),
        ):
            assert array.shape == (6, 64) and array.dtype == dtype
        rows = shards["prose"].vocabulary + 143
        assert batch.tokens_BT.min() >= 0 and batch.tokens_BT.max() < rows
        assert batch.labels_BT.min() >= -100 and batch.labels_BT.max() < rows
        padding = batch.segments_BT == 0
        assert (batch.labels_BT[padding] == -100).all() and not batch.prefix_BT[padding].any()
        assert (batch.labels_BT >= 0).any(axis=1).all(), "every row teaches something"


def test_equal_seeds_give_equal_batches_and_others_do_not(shards: dict[str, OpenShards]) -> None:
    first, second = stream_of(shards), stream_of(shards)
    other = stream_of(shards, dataclasses.replace(CONFIG, seed=4))
    same = [(as_bytes(first.next()), as_bytes(second.next()), as_bytes(other.next())) for _ in range(20)]
    assert all(a == b != c for a, b, c in same)


def test_the_order_in_which_sources_are_named_does_not_matter(shards: dict[str, OpenShards]) -> None:
    turned = dataclasses.replace(CONFIG, sources=dict(reversed(MIXTURE.items())))
    streams = stream_of(shards), stream_of(dict(reversed(shards.items())), turned)
    assert all(as_bytes(streams[0].next()) == as_bytes(streams[1].next()) for _ in range(10))


def test_a_stream_resumes_exactly_any_number_of_times(shards: dict[str, OpenShards]) -> None:
    whole = stream_of(shards)
    batches, states = [], []
    for _ in range(60):
        states.append(json.dumps(whole.state(), sort_keys=True))
        batches.append(as_bytes(whole.next()))

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.tuples(st.integers(0, 59), st.integers(0, 8)), min_size=1, max_size=4))
    def resume(visits: list[tuple[int, int]]) -> None:
        stream = stream_of(shards)
        for start, steps in visits:
            for fresh in (stream, stream_of(shards)):  # in a used stream and in a new process alike
                fresh.restore(json.loads(states[start]))
                fresh.restore(fresh.state())
                for step in range(start, min(start + steps, 60)):
                    assert json.dumps(fresh.state(), sort_keys=True) == states[step]
                    assert as_bytes(fresh.next()) == batches[step]

    resume()


def test_a_state_is_a_few_whole_numbers_a_source(shards: dict[str, OpenShards]) -> None:
    stream = stream_of(shards)
    for _ in range(9):
        stream.next()
    for values in stream.state().values():
        assert all(type(value) is int for value in values.values())
        assert len(values) <= 8
    before = json.dumps(stream.state())
    stream.next()
    assert before != json.dumps(stream.state())


def test_a_state_that_was_handed_out_does_not_change_later(shards: dict[str, OpenShards]) -> None:
    stream = stream_of(shards)
    stream.next()
    state = stream.state()
    before = json.dumps(state)
    stream.next()
    assert json.dumps(state) == before


def test_documents_without_tokens_are_skipped_and_counted(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers import normalizers

    tokenizer.save(tmp_path / "tokenizer.json")
    backend = Backend.from_file(str(tmp_path / "tokenizer.json"))
    backend.normalizer = normalizers.Strip()
    backend.save(str(tmp_path / "tokenizer.json"))
    texts = [" " if n % 3 == 0 else f"{n} turns of the wheel" for n in range(30)]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    write_shards(read_documents(str(tmp_path / "c.jsonl")), tmp_path, tmp_path / "made", ShardConfig())
    config = LoaderConfig(context_tokens=64, rows=4, sources={"a": SourceConfig(objective="prefix")}, window_rows=1)
    stream = stream_of({"a": open_shards(tmp_path / "made")}, config)
    for _ in range(20):
        assert (stream.next().labels_BT >= 0).any(axis=1).all()
    state = stream.state()["a"]
    assert state["epoch"] > 3
    assert 10 * state["epoch"] <= state["skipped"] <= 10 * (state["epoch"] + 1)


def test_weights_are_shares_of_the_filled_positions(shards: dict[str, OpenShards]) -> None:
    stream = stream_of(shards)
    filled = sum(stream.next().filled() for _ in range(150))
    tokens = {name: values["tokens"] for name, values in stream.state().items()}
    assert sum(tokens.values()) == filled
    for name, source in MIXTURE.items():
        assert tokens[name] / filled == pytest.approx(source.weight, abs=64 / filled + 1e-9)


def test_each_row_is_of_one_source(shards: dict[str, OpenShards]) -> None:
    stream = stream_of(shards)
    modes = {shards["pile"].vocabulary + n for n in range(3)}
    for _ in range(20):
        batch = stream.next()
        for tokens, segments, prefix in zip(batch.tokens_BT, batch.segments_BT, batch.prefix_BT, strict=True):
            firsts = [int(np.flatnonzero(segments == n)[0]) for n in range(1, segments.max() + 1)]
            assert len({int(tokens[first]) in modes for first in firsts}) == 1, "denoised or not"
            assert len({bool(prefix[first]) for first in firsts}) == 1, "prompted or not"


def test_no_position_sees_another_example_under_either_mask(shards_of: MakeShards, tokenizer: TextTokenizer) -> None:
    from headrace.models.masks import packed_causal, packed_prefix_lm

    lines = [{"prompt": chr(65 + n) * (1 + n % 7), "target": chr(65 + n) * (1 + n % 3)} for n in range(26)]
    config = LoaderConfig(context_tokens=48, rows=8, sources={"a": SourceConfig(objective="instruction")})
    batch = stream_of({"a": shards_of(lines)}, config).next()
    tensors = batch.torch()
    letters = {tokenizer.encode(chr(65 + n))[0]: n for n in range(26)}
    for mask in (packed_causal(tensors.segments_BT), packed_prefix_lm(tensors.segments_BT, tensors.prefix_BT)):
        seen = mask.dense(48)
        assert seen is not None
        for row, query, key in np.argwhere(seen[:, 0].numpy()):
            if batch.segments_BT[row, query]:
                same = letters[int(batch.tokens_BT[row, query])] == letters[int(batch.tokens_BT[row, key])]
                assert same and batch.segments_BT[row, key]


def test_sources_without_documents_behind_them_are_refused_with_the_nearest_name(
    shards: dict[str, OpenShards],
) -> None:
    misspelt = {name.replace("prose", "prosa"): source for name, source in MIXTURE.items()}
    with pytest.raises(ConfigError, match=r"'prosa', and no document of that name .* Did you mean 'prose'\?"):
        stream_of(shards, dataclasses.replace(CONFIG, sources=misspelt))
    fewer = {name: source for name, source in MIXTURE.items() if name != "pile"}
    fewer["prose"] = SourceConfig(weight=0.75)
    with pytest.raises(ConfigError, match="says nothing of the shards 'pile'"):
        stream_of(shards, dataclasses.replace(CONFIG, sources=fewer))


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_weights_that_are_no_share_are_refused(weight: float) -> None:
    with pytest.raises(ConfigError, match="Source 'a' has weight"):
        LoaderConfig(context_tokens=64, rows=1, sources={"a": SourceConfig(weight=weight)})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"rows": 0}, "rows=0"),
        ({"window_rows": 0}, "window_rows=0"),
        ({"sources": {}}, "sources is empty"),
        ({"context_tokens": 31}, "context_tokens=31 is too short for objective"),
    ],
)
def test_impossible_shapes_are_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        dataclasses.replace(CONFIG, **change)


def test_denoising_without_unused_rows_is_refused(shards: dict[str, OpenShards]) -> None:
    with pytest.raises(ConfigError, match="leaves 10 rows unused"):
        stream_of(shards, unused=10)
    causal = dataclasses.replace(CONFIG, sources={"prose": SourceConfig()})
    stream_of({"prose": shards["prose"]}, causal, unused=0).next()


def test_an_instruction_source_needs_prompts(shards: dict[str, OpenShards]) -> None:
    config = dataclasses.replace(CONFIG, sources={"prose": SourceConfig(objective="instruction")})
    with pytest.raises(ConfigError, match="'prose' has 70 documents without a prompt"):
        stream_of({"prose": shards["prose"]}, config)


def test_a_source_whose_prompts_leave_no_answer_room_is_refused(shards_of: MakeShards) -> None:
    asked = SourceConfig(objective="instruction", cut="end")
    config = dataclasses.replace(CONFIG, context_tokens=48, sources={"long": asked})
    long = [{"prompt": "ab" * 200 + str(n), "target": "c"} for n in range(9)]
    with pytest.raises(ConfigError, match=r"'long' has no prompt of context_tokens=48 or fewer.*Choose cut='prompt'"):
        stream_of({"long": shards_of(long, "long")}, config)
    stream = stream_of({"long": shards_of([*long, {"prompt": "a", "target": "c"}], "one")}, config)
    stream.next()
    assert stream.state()["long"]["skipped"] > 0


def test_a_source_of_empty_documents_is_refused(shards: dict[str, OpenShards], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards["prose"], "tokens", len(shards["prose"]))
    with pytest.raises(ConfigError, match="'prose' has no documents with text"):
        stream_of(shards)


def test_shards_of_another_vocabulary_are_refused(shards: dict[str, OpenShards]) -> None:
    vocabulary, eos = shards["prose"].vocabulary, shards["prose"].eos_id
    with pytest.raises(MismatchError, match="Encode it again"):
        BatchStream(shards, CONFIG, SpecialTokens(vocabulary + 1, vocabulary + 200), eos)
    with pytest.raises(MismatchError, match="Encode it again"):
        BatchStream(shards, CONFIG, SpecialTokens(vocabulary, vocabulary + 200), eos + 1)


def test_the_position_of_other_sources_is_refused(shards: dict[str, OpenShards], shards_of: MakeShards) -> None:
    state = stream_of(shards).state()
    fewer = shards | {"books": shards_of([{"text": "another book"}], "others")}
    with pytest.raises(MismatchError, match="Resume with the shards the run began with") as refusal:
        stream_of(fewer).restore(state)
    assert "\n" not in str(refusal.value)
    with pytest.raises(MismatchError):
        stream_of(shards).restore({name: values for name, values in state.items() if name != "pile"})


def test_a_configuration_travels_as_json() -> None:
    assert decode(LoaderConfig, json.loads(json.dumps(encode(CONFIG)))) == CONFIG
    values = encode(CONFIG)
    values["sources"]["pile"]["objective"] = "ul3"
    with pytest.raises(ConfigError, match="Did you mean 'ul2'"):
        decode(LoaderConfig, values)


@pytest.mark.parametrize("objective", ["causal", "ul2", "prefix", "instruction"])
def test_rows_are_made_far_faster_than_they_are_trained_on(shards_of: MakeShards, objective: str) -> None:
    shards = shards_of({"prompt": f"{n} " * 8, "target": f"{n} " * 4} for n in range(3000))
    config = LoaderConfig(context_tokens=256, rows=16, sources={"a": SourceConfig(objective=objective)})
    stream = stream_of({"a": shards}, config)
    stream.next()
    started, filled = time.process_time(), 0
    while (seconds := time.process_time() - started) < 0.2:
        filled += stream.next().filled()
    assert filled / seconds > (1_000_000 if objective == "causal" else 300_000)


def test_nothing_but_numpy_is_needed_to_import_the_data_package() -> None:
    code = (
        "import sys, headrace.data.loader, headrace.data.shards, headrace.data.tokenizer, headrace.data.documents\n"
        "heavy = {'torch', 'tokenizers', 'gigatoken', 'zstandard', 'awkward', 'google.cloud.storage', 'mlflow'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("replicas", [2, 3, 6])
def test_replicas_read_parts_of_the_same_batches(shards: dict[str, OpenShards], replicas: int) -> None:
    whole = stream_of(shards)
    parts = [stream_of(shards, replica=number, replicas=replicas) for number in range(replicas)]
    for _ in range(40):
        rows = [part.next() for part in parts]
        assert all(len(part.tokens_BT) == 6 // replicas for part in rows)
        batch = whole.next()
        for field in dataclasses.fields(Batch):
            joined = np.concatenate([getattr(part, field.name) for part in rows])
            np.testing.assert_array_equal(joined, getattr(batch, field.name))
        assert all(part.state() == whole.state() for part in parts)
        for part in parts:
            for mine, every in zip(part.provenance(), whole.provenance(), strict=True):
                np.testing.assert_array_equal(mine, every)


def test_another_number_of_replicas_goes_on_with_the_same_batches(shards: dict[str, OpenShards]) -> None:
    whole, state, left = stream_of(shards), None, 0
    random = np.random.default_rng(1)
    streams: list[BatchStream] = []
    for _ in range(60):
        if not left:
            replicas, left = int(random.choice([1, 2, 3, 6])), int(random.integers(1, 7))
            streams = [stream_of(shards, replica=number, replicas=replicas) for number in range(replicas)]
            for stream in streams if state else []:
                stream.restore(json.loads(json.dumps(state)))
        joined = np.concatenate([stream.next().tokens_BT for stream in streams])
        np.testing.assert_array_equal(joined, whole.next().tokens_BT)
        state, left = streams[-1].state(), left - 1


@pytest.mark.parametrize(("replica", "replicas"), [(0, 4), (0, 0), (2, 2), (-1, 2)])
def test_replicas_that_cannot_share_the_rows_are_refused(shards: dict[str, OpenShards], replica: int, replicas: int):
    with pytest.raises(ConfigError, match="replica"):
        stream_of(shards, replica=replica, replicas=replicas)


class Reads:
    """What is read of opened shards: tokens, and documents whose lengths are looked up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tokens = self.lengths = 0
        spans, lengths = OpenShards.spans, OpenShards.lengths

        def counted_spans(opened: OpenShards, numbers: Any, starts: Any, stops: Any) -> Any:
            self.tokens += int((stops - starts).sum())
            return spans(opened, numbers, starts, stops)

        def counted_lengths(opened: OpenShards, numbers: Any) -> Any:
            self.lengths += len(numbers)
            return lengths(opened, numbers)

        monkeypatch.setattr(OpenShards, "spans", counted_spans)
        monkeypatch.setattr(OpenShards, "lengths", counted_lengths)


def many(shards_of: MakeShards) -> OpenShards:
    return shards_of(({"prompt": f"{n} " * (1 + n % 17), "target": f"{n}"} for n in range(1, 8000)), "many")


@pytest.mark.parametrize("objective", ["causal", "ul2", "prefix", "instruction"])
def test_replicas_read_no_tokens_but_those_of_their_rows(
    shards_of: MakeShards, objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, config = many(shards_of), LoaderConfig(context_tokens=64, rows=8, sources={"a": SourceConfig()})
    config = dataclasses.replace(config, sources={"a": SourceConfig(objective=objective)}, window_rows=32)
    reads = Reads(monkeypatch)
    found = []
    for replicas in (1, 4):
        stream = stream_of({"a": opened}, config, replica=0, replicas=replicas)
        reads.tokens = 0
        for _ in range(16):  # four whole windows
            stream.next()
        found.append(reads.tokens)
    assert 0.2 * found[0] < found[1] < 0.3 * found[0]


@pytest.mark.parametrize("objective", ["causal", "ul2", "instruction"])
def test_resuming_late_costs_no_more_than_beginning(
    shards_of: MakeShards, objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = many(shards_of)
    sources = {"a": SourceConfig(objective=objective)}
    config = LoaderConfig(context_tokens=64, rows=8, sources=sources, window_rows=8)
    stream = stream_of({"a": opened}, config)
    for _ in range(150):
        stream.next()
    state = stream.state()
    assert state["a"]["document"] > 1000 or state["a"]["epoch"] > 0
    reads, costs = Reads(monkeypatch), []
    for position in (stream_of({"a": opened}, config).state(), state):
        fresh = stream_of({"a": opened}, config)
        reads.tokens = reads.lengths = 0
        fresh.restore(position)
        fresh.next()
        costs.append((reads.tokens, reads.lengths))
    # A batch in the middle of a run may end one window and begin the next: two are built.
    assert costs[1][0] < 3 * costs[0][0] and costs[1][1] < 3 * costs[0][1]


def test_a_batch_says_which_tokens_of_which_documents_it_holds(shards: dict[str, OpenShards]) -> None:
    stream = stream_of(shards)
    special = range(shards["pile"].vocabulary, shards["pile"].vocabulary + 143)
    for _ in range(30):
        batch, where = stream.next(), stream.provenance()
        assert where.rows_N.tolist() == sorted(where.rows_N.tolist())
        for row in range(6):
            mine = where.rows_N == row
            names = {stream.names[n] for n in where.sources_N[mine]}
            assert len(names) == 1
            opened, objective = shards[(name := names.pop())], MIXTURE[name].objective
            spans = zip(where.documents_N[mine], where.starts_N[mine], where.stops_N[mine], strict=True)
            read = [opened.document(number)[start:stop].tolist() for number, start, stop in spans]
            segments = batch.segments_BT[row].max()
            assert len(read) == segments
            for segment, tokens in enumerate(read, start=1):
                inside = batch.segments_BT[row] == segment
                labels = batch.labels_BT[row][inside]
                if objective == "causal":
                    assert labels.tolist() == tokens
                    continue
                seen = [*batch.tokens_BT[row][inside].tolist(), int(labels[-1])]
                kept = sorted(token for token in seen if token not in special)
                corrupted = objective == "ul2" and kept != sorted(tokens)  # and closed by an end-of-text of its own
                assert kept == sorted([*tokens, opened.eos_id] if corrupted else tokens)


def test_examples_longer_than_a_row_are_counted(shards_of: MakeShards) -> None:
    lines = [{"prompt": "ab" * (100 if n % 5 == 0 else 2), "target": f"{n}"} for n in range(50)]
    opened = shards_of(lines)
    too_long = sum(len(opened.document(n)) > 65 for n in range(50))
    assert 0 < too_long < 50
    config = LoaderConfig(context_tokens=64, rows=1, sources={"a": SourceConfig(objective="instruction")})
    stream = stream_of({"a": opened}, dataclasses.replace(config, window_rows=4))
    while (state := stream.state()["a"])["epoch"] < 20:
        stream.next()
    assert 20 * too_long <= state["cut"] <= 21 * too_long


def test_each_epoch_has_every_document_once_in_an_order_of_its_own(shards_of: MakeShards) -> None:
    opened = shards_of({"prompt": f"{n}", "target": "x" * (1 + n % 9)} for n in range(100))
    config = LoaderConfig(context_tokens=64, rows=1, sources={"a": SourceConfig(objective="instruction")})
    stream = stream_of({"a": opened}, dataclasses.replace(config, window_rows=3))
    seen: list[int] = []
    while len(seen) < 300:
        rows = []
        for _ in range(3):  # a window: within it, rows are in another order than documents
            stream.next()
            rows += stream.provenance().documents_N.tolist()
        seen += rows
    counts = np.bincount(seen, minlength=100)
    assert counts.min() >= 2 and counts.max() - counts.min() <= 2
    windows = [seen[start : start + 20] for start in (0, 100, 200)]
    assert len(set(map(tuple, windows))) == 3 and len(set(seen[:20]) & set(seen[100:120])) < 15
