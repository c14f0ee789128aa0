"""FLAN's chain-of-thought files: tab-separated question, answer and reasoning, line feeds written as `\\n`.

The prompt asks to think step by step, as MMLU-CoT's do; the target is the reasoning, then the answer. The
file's name is the subset (`creak` of `creak_train.tsv`).

Source: Scaling Instruction-Finetuned Language Models (Chung et al., arXiv:2210.11416).
"""

from collections.abc import Iterator

from headrace.data.formats.document import Document, Origin, joined
from headrace.data.formats.mmlu_cot import REASONING
from headrace.data.formats.names import stem, without_split
from headrace.data.formats.records import numbered, undecodable
from headrace.data.quarantine import Fault

FIELDS = ("question", "answer", "reasoning")


def read(origin: Origin) -> Iterator[Document | Fault]:
    """Yield one worked question a line."""
    source = origin.source(without_split(stem(origin.file)))
    for line in numbered(origin.file, origin.stamp):
        if isinstance(line, Fault):
            yield line
            continue
        number, data = line
        reason = undecodable(data)
        fields = [] if reason else [_unescape(field) for field in data.decode().split("\t")]
        reason = reason or _reason(fields)
        if reason:
            yield Fault(origin.file, number, reason)
        else:
            yield Document(source, "", *_worked(*fields), origin.file, number)


def _unescape(field: str) -> str:
    return field.strip().replace("\\n", "\n")


def _reason(fields: list[str]) -> str:
    """Why the fields are no worked question; nothing where they are one."""
    if len(fields) != len(FIELDS):
        return f"has {len(fields)} tab-separated fields, not {len(FIELDS)} ({', '.join(FIELDS)})"
    empty = [name for name, field in zip(FIELDS, fields, strict=True) if not field]
    return f"has an empty {empty[0]!r}" if empty else ""


def _worked(question: str, answer: str, reasoning: str) -> tuple[str, str]:
    return joined(f"Q: {question}\n{REASONING}", f"{reasoning} The answer is {answer}.")
