"""The measurement of one checkpoint: every task and perplexity of a configuration, sealed as an EvalReport.

Beside the manifest lie `scores/TASK.parquet`, one row for each example, `evaluation.json`, what was asked
and of which data, and `report.html`, to be read. Equal checkpoints, data and configurations give equal digests.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace import devices, storage
from headrace.artifacts import EvalReport, Manifest
from headrace.config import encode
from headrace.data.documents import sealed_parents
from headrace.data.tokenizer import load_tokenizer
from headrace.evaluation.config import EvalConfig
from headrace.evaluation.confusion import Confusion, confuse
from headrace.evaluation.details import describe, identity, write_details
from headrace.evaluation.lm import HeadraceLM
from headrace.evaluation.page import page
from headrace.evaluation.perplexity import run_perplexity
from headrace.evaluation.scores import Example, Measured, read_examples, score_file, write_examples
from headrace.evaluation.sources import Data, check_tasks, uris
from headrace.evaluation.subjects import over_subjects
from headrace.evaluation.tasks import run_task
from headrace.models.pretrained import Pretrained, load
from headrace.tracking import Tracker

PAGE = "report.html"


def evaluate(
    checkpoint_uri: str | Path, output_uri: str | Path, config: EvalConfig, *, data: Data, tracker: Tracker
) -> Manifest:
    """Measure a checkpoint under the mask it was trained with.

    Args:
        checkpoint_uri: A sealed Checkpoint.
        output_uri: Where the report goes.
        config: What to measure.
        data: Files by the names that `config` uses; others are not read.
        tracker: Told the metrics with their standard errors, and how far the evaluation is.

    Raises:
        ConfigError: Data that `config` names and `data` has not.
        DataError: A data file that cannot be read as what its task needs.
        IntegrityError: A checkpoint that is not whole.
        TrainingError: A model that gives no finite log-likelihoods.
    """
    check_tasks(config, data)  # a broken file is found before a model is opened, not hours later
    pretrained = load(checkpoint_uri, devices.pick().torch)
    lm = _open(pretrained, config)
    asked = describe(config, data)
    tracker.params({"data": identity(asked), "mask": lm.mask, "lm_eval": asked["lm_eval"]})
    with storage.writing(output_uri) as tree:
        found = dict(_measure(lm, config, data, tracker))
        metrics = {f"{name}/{leaf}": value for name, one in found.items() for leaf, value in one.metrics.items()}
        metrics |= over_subjects(config, found)
        digest = pretrained.checkpoint.digest
        facts = EvalReport(checkpoint=digest, mask=lm.mask, metrics=metrics, data=identity(asked))
        cut = {"truncated_requests": lm.truncated_requests, "truncated_tokens": lm.truncated_tokens}
        _write(tree.path, facts, {**asked, **cut}, {name: one.examples for name, one in found.items()})
        tracker.metrics({key: metric.value for key, metric in metrics.items()})
        tracker.metrics({f"{key}_stderr": metric.stderr for key, metric in metrics.items()} | cut)
        return tree.commit(facts, {"checkpoint": digest, **_corpora(config, data)})


def nothing_to_beat(output_uri: str | Path, config: EvalConfig, *, data: Data) -> Manifest:
    """Seal a report without metrics: what stands for a champion where there is none yet."""
    asked = describe(config, data)
    with storage.writing(output_uri) as tree:
        write_details(tree.path, asked)
        facts = EvalReport(checkpoint="", mask="causal", metrics={}, data=identity(asked))
        return tree.commit(facts, _corpora(config, data))


def headline(report: EvalReport, config: EvalConfig) -> str:
    """The one number shown for a report, as `facts_heldout/exact_match 0.870 ± 0.012`."""
    names = [*config.tasks, *config.perplexity]
    found = (key for name in names for key in sorted(report.metrics) if key.rpartition("/")[0] == name)
    key = config.headline if config.headline in report.metrics else next(found, None)
    if key is None:
        return "nothing measured"
    return f"{key} {report.metrics[key].value:.3f} ± {report.metrics[key].stderr:.3f}"


def _open(pretrained: Pretrained, config: EvalConfig) -> HeadraceLM:
    return HeadraceLM(
        pretrained.model,
        load_tokenizer(pretrained.tokenizer_file),
        pretrained.checkpoint.facts.mask,
        max_batch_tokens=config.max_batch_tokens,
        bos_eos=config.bos_eos,
        seed=config.seed,
    )


def _measure(lm: HeadraceLM, config: EvalConfig, data: Data, tracker: Tracker) -> Iterator[tuple[str, Measured]]:
    """Run one part after the other, telling the tracker how far all of them are."""
    parts = len(config.tasks) + len(config.perplexity)
    for done, name in enumerate([*config.tasks, *config.perplexity]):
        tracker.progress(name, done / parts)
        lm.on_progress = _teller(tracker, name, done, parts)
        if name in config.tasks:
            yield name, run_task(lm, name, config.tasks[name], data, seed=config.seed)
        else:
            yield from run_perplexity(lm, name, uris(data, config.perplexity[name])).items()
    tracker.progress("evaluated", 1.0)


def _teller(tracker: Tracker, name: str, done: int, parts: int) -> Callable[[float], None]:
    """What one part's share means for the whole."""
    return lambda share: tracker.progress(name, (done + share) / parts)


def read_confusions(report: Path, config: EvalConfig) -> dict[str, Confusion]:
    """Answers by what was right, of the tasks of a report where that can be counted."""
    return _confusions(encode(config), {name: read_examples(score_file(report, name)) for name in config.tasks})


def _confusions(config: Mapping[str, Any], examples: Mapping[str, Sequence[Example]]) -> dict[str, Confusion]:
    counted = {name: confuse(task["kind"], examples[name]) for name, task in config["tasks"].items()}
    return {name: one for name, one in counted.items() if one is not None}


def _write(folder: Path, facts: EvalReport, details: dict[str, Any], examples: Mapping[str, list[Example]]) -> None:
    """Lay down scores, settings and page."""
    for name, some in examples.items():
        write_examples(score_file(folder, name), some)
    write_details(folder, details)
    text = page(facts, details, examples, _confusions(details["config"], examples))
    (folder / PAGE).write_text(text, encoding="utf-8")


def _corpora(config: EvalConfig, data: Data) -> dict[str, str]:
    """Digests of the sealed corpora that the data lie in."""
    return sealed_parents([uri for name in config.data_names() for uri in uris(data, name)])
