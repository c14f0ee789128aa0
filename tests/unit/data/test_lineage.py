"""From the shards that are trained on back to the files: a walk through MLflow's datasets, every step a real one."""

from pathlib import Path
from typing import Any

from kfp import dsl

from components.data.combine import combine
from components.data.filter import filter_corpus
from components.data.gather import gather
from components.data.report import report
from components.data.sign import sign
from components.data.tokenize import tokenize
from components.data.train_tokenizer import train_tokenizer
from headrace.config import encode
from headrace.data.corpus import CorpusConfig
from headrace.data.filtering.filter import FilterConfig
from headrace.data.loader import LoaderConfig, SourceConfig
from headrace.data.shards import ShardConfig
from headrace.data.source_files import SourceFiles
from headrace.data.tokenizer import TokenizerConfig
from headrace.models.gptj import GPTJConfig
from headrace.tracking import client, experiment_id
from headrace.training.config import TrainConfig
from tests.unit.data.conftest import sentence, write_lines

MODEL = GPTJConfig(vocab_size=320, n_layer=1, d_model=16, n_head=2, d_ff=32, rotary_dim=4, context_tokens=64)
DATA = LoaderConfig(context_tokens=48, rows=2, sources={"text": SourceConfig(objective="causal")})
TRAINING = encode(TrainConfig(model=MODEL, data=DATA, steps=1, microbatch_rows=1))


class Prepared:
    """The steps of `prepare` on two sources, one after the other; `digests` are told by MLflow alone."""

    def __init__(self, root: Path, corpus: CorpusConfig) -> None:
        self._root = root
        made = self._made(dsl.Dataset, "corpus")
        pieces = gather.python_func(config=encode(corpus), corpus=made)
        tokenizer = self._made(dsl.Artifact, "tokenizer")
        train_tokenizer.python_func(corpus=made, config=encode(TokenizerConfig(vocabulary=300)), tokenizer=tokenizer)
        signed = [self._made(dsl.Dataset, f"signed-{number}") for number in range(len(pieces))]
        for piece, signatures in zip(pieces, signed, strict=True):
            sign.python_func(corpus=made, piece=piece, config=encode(FilterConfig()), signatures=signatures)
        kept = self._made(dsl.Dataset, "exclusions")
        filter_corpus.python_func(signatures=signed, config=encode(FilterConfig()), exclusions=kept)
        given: dict[str, Any] = {"corpus": made, "tokenizer": tokenizer, "exclusions": kept}
        encoded = [self._made(dsl.Dataset, f"encoded-{number}") for number in range(len(pieces))]
        for piece, tokens in zip(pieces, encoded, strict=True):
            tokenize.python_func(**given, piece=piece, config=encode(ShardConfig()), tokens=tokens)
        self.joined, self.page = self._made(dsl.Dataset, "joined"), self._made(dsl.HTML, "page")
        self.summary, numbers = self._made(dsl.Dataset, "summary"), self._made(dsl.Metrics, "numbers")
        combine.python_func(pieces=encoded, split="text", tokens=self.joined)
        shown = {"summary": self.summary, "page": self.page, "numbers": numbers}
        report.python_func(pieces=encoded, tokenizer=tokenizer, exclusions=kept, training=TRAINING, **shown)

    def _made(self, kind: Any, name: str) -> Any:
        return kind(uri=str(self._root / name))


def test_what_is_trained_on_leads_back_to_the_data_sets_it_was_gathered_from(mlflow_store: Path) -> None:
    for name, words in (("mill", 40), ("weir", 60), ("exam", 20)):
        write_lines(mlflow_store / f"{name}.jsonl", ({"text": sentence(seed * words, words)} for seed in range(60)))
    sources = {name: SourceFiles(uri=str(mlflow_store / f"{name}.jsonl"), format="jsonl") for name in ("mill", "weir")}
    made = Prepared(mlflow_store, CorpusConfig(sources=sources, files={"exam": str(mlflow_store / "exam.jsonl")}))
    runs = {run.data.tags.get("headrace.digest"): run for run in client().search_runs([experiment_id()])}
    used = {
        digest: {one.dataset.name: (one.dataset.digest, one.dataset.source) for one in run.inputs.dataset_inputs}
        for digest, run in runs.items()
    }

    def behind(digest: str) -> set[str]:
        """What no run of ours has made, and all that follows from."""
        inputs = {name: found for name, found in used[digest].items() if name != "exclusions"}
        makers = {full for full in runs if full and any(full.startswith(short) for short, _ in inputs.values())}
        outer = {source for short, source in inputs.values() if not any(full.startswith(short) for full in makers)}
        return outer.union(*map(behind, makers))

    files = {str(mlflow_store / f"{name}.jsonl") for name in ("mill", "weir", "exam")}
    assert behind(made.joined.metadata["digest"]) == behind(made.summary.metadata["digest"]) == files
    assert used[made.joined.metadata["digest"]].items() <= used[made.summary.metadata["digest"]].items()
    assert Path(made.page.path).read_text().count("<svg") > 1
    (shown,) = (run for digest, run in runs.items() if digest == made.summary.metadata["digest"])
    assert {file.path for file in client().list_artifacts(shown.info.run_id, "data")} == {
        "data/report.html",
        "data/report.json",
    }


def test_a_data_set_whose_file_changed_is_another(mlflow_store: Path) -> None:
    found = []
    for word in ("river", "rover"):
        (mlflow_store / "a.jsonl").write_text(f'{{"text": "{word}"}}\n')
        config = encode(CorpusConfig(files={"text": str(mlflow_store / "a.jsonl")}))
        made = dsl.Dataset(uri=str(mlflow_store / word))
        gather.python_func(config=config, corpus=made)
        runs = client().search_runs([experiment_id()])
        (run,) = (run for run in runs if run.data.tags.get("headrace.digest") == made.metadata["digest"])
        ((one,),) = [run.inputs.dataset_inputs]
        found.append((one.dataset.name, one.dataset.source, one.dataset.digest))
    assert [(name, source) for name, source, _ in found] == [("text", str(mlflow_store / "a.jsonl"))] * 2
    assert found[0] != found[1]
