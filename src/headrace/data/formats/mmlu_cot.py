"""MMLU-CoT: one `.json` of worked exam questions by subject, each subject one string.

A subject's string is a heading, then questions apart by a blank line, each `Q: ...` with its choices and
`A: Let's think step by step. ...`. Every question becomes an instruction of its own: the heading and the
question up to that phrase are the prompt, the reasoning with its answer the target.

Source: Scaling Instruction-Finetuned Language Models (Chung et al., arXiv:2210.11416), the prompts for MMLU.
"""

from collections.abc import Iterator

from headrace.data.formats.document import Document, Origin, joined
from headrace.data.formats.records import load_json
from headrace.data.quarantine import Fault

QUESTION = "\n\nQ: "
REASONING = "A: Let's think step by step."


def read(origin: Origin) -> Iterator[Document | Fault]:
    """Yield the questions of all subjects, numbered through the file."""
    subjects = load_json(origin.file, origin.stamp)
    if subjects is None or isinstance(subjects, Fault):
        yield from [subjects] if subjects else []
        return
    if not isinstance(subjects, dict):
        yield Fault(origin.file, 0, f"is a JSON {type(subjects).__name__}, not an object of subjects")
        return
    number = 0
    for subject, text in subjects.items():
        for prompt, target in _questions(text):
            number += 1
            if target:
                yield Document(origin.source(subject), "", *joined(prompt, target), origin.file, number)
            else:
                yield Fault(origin.file, number, f"has no {REASONING!r} with an answer, in subject {subject!r}")


def _questions(text: object) -> list[tuple[str, str]]:
    """Prompt and target of each question; an empty target where there is none to be found."""
    heading, *questions = text.split(QUESTION) if isinstance(text, str) else [""]
    pairs = []
    for question in questions or [""]:
        asked, _, answer = question.partition(REASONING)
        pairs.append((f"{heading.strip()}{QUESTION}{asked}{REASONING}", answer.strip()))
    return pairs
