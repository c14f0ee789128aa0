"""Natural-Instructions: a `.json` file is one task, its `Definition`, examples and `Instances`.

The prompt is the definition, solved examples and the instance, apart by blank lines and ending in `Output:`;
of several outputs one is drawn, the same for the same task and instance wherever the file lies. On the hub a
record is `{"definition": ..., "inputs": ..., "targets": ...}` and has no examples. A source is
`SOURCE/task019`; its number stands for the task.

Source: Super-NaturalInstructions (Wang et al., arXiv:2204.07705); Tk-Instruct shows the definition and two
positive examples, which is the default here. Its own labels ("Positive Example 1 -") are left out.
"""

from collections.abc import Iterator
from typing import Any

from headrace.data.draws import draw, name_word
from headrace.data.formats.document import (
    Document,
    FaultyRecord,
    Origin,
    Parse,
    Record,
    filled_field,
    joined,
    text_field,
)
from headrace.data.formats.names import TASK, task_name
from headrace.data.formats.records import load_json
from headrace.data.quarantine import Fault

LABELS = {"Positive Examples": "Output:", "Negative Examples": "Wrong output:"}


def read(origin: Origin, *, positive_examples: int = 2, negative_examples: int = 0) -> Iterator[Document | Fault]:
    """Yield the instances of a task, numbered from 1.

    Args:
        origin: A task file.
        positive_examples: Solved examples shown before the instance, as many as there are.
        negative_examples: Examples of a wrong output, after those.
    """
    task = load_json(origin.file, origin.stamp)
    if task is None or isinstance(task, Fault):
        yield from [task] if task else []
        return
    name = task_name(origin.file)
    try:
        opening_text = opening(task, {"Positive Examples": positive_examples, "Negative Examples": negative_examples})
        found = instances(task)
    except FaultyRecord as error:
        yield Fault(origin.file, 0, str(error))
        return
    source, word = origin.source(_subset(name)), name_word(name)
    for number, instance in enumerate(found, start=1):
        try:
            prompt, target = _drawn(opening_text, instance, (word, number))
        except FaultyRecord as error:
            yield Fault(origin.file, number, str(error))
        else:
            yield Document(source, "", prompt, target, origin.file, number)


def parser(origin: Origin) -> Parse:
    """Parse the hub's records, one instance each."""

    def parse(values: Record, line: int) -> Document:
        name = values.get("task_name")
        source = origin.source(_subset(name) if isinstance(name, str) else "")
        prompt, (target,) = asked(*unpacked(values))
        return Document(source, "", *joined(prompt, target), origin.file, line)

    return parse


def unpacked(values: Record) -> tuple[str, Record]:
    """What a record of the hub is asked after, and its instance as a task file would have it."""
    definition = filled_field(values, "definition").strip()
    instance = {"input": text_field(values, "inputs"), "output": filled_field(values, "targets")}
    named = {} if values.get("id") is None else {"id": values["id"]}
    return definition, named | instance


def _subset(task: str) -> str:
    """`task019` out of `task019_mctaco_temporal_reasoning_category`."""
    number = TASK.match(task)
    return number.group() if number else task


def opening(task: Any, shown: dict[str, int]) -> str:
    """What every instance of the task is asked after: its definition and examples."""
    if not isinstance(task, dict):
        raise FaultyRecord(f"is a JSON {type(task).__name__}, not a Natural-Instructions task")
    parts = [_definition(task)]
    for key, count in shown.items():
        examples = task.get(key, []) if count else []
        if not isinstance(examples, list) or not all(isinstance(example, dict) for example in examples[:count]):
            raise FaultyRecord(f"has {key!r} that are no list of objects")
        for example in examples[:count]:
            asked, answer = _input(text_field(example, "input")), filled_field(example, "output").strip()
            parts.append(f"{asked}{LABELS[key]} {answer}")
    return "\n\n".join(parts)


def _definition(task: Record) -> str:
    """The first wording of what is to be done."""
    wordings = task.get("Definition")
    first = {"Definition": wordings[0]} if isinstance(wordings, list) and wordings else task
    return filled_field(first, "Definition").strip()


def instances(task: Record) -> list[Any]:
    """The instances of a task, of which there must be some."""
    found = task.get("Instances")
    if not isinstance(found, list) or not found:
        raise FaultyRecord("has no instances" if "Instances" in task else "has no 'Instances'")
    return found


def _input(text: str) -> str:
    """The line that gives an input; nothing where a task has none."""
    return f"Input: {text.strip()}\n" if text.strip() else ""


def asked(opening: str, instance: Any) -> tuple[str, list[str]]:
    """Prompt of one instance, and every output that would do."""
    if not isinstance(instance, dict):
        raise FaultyRecord(f"is a JSON {type(instance).__name__}, not an instance")
    prompt = f"{opening}\n\n{_input(text_field(instance, 'input'))}Output:"
    given = instance.get("output")
    outputs = [given] if isinstance(given, str) else given
    if not isinstance(outputs, list) or not all(isinstance(output, str) for output in outputs):
        raise FaultyRecord(
            "has an 'output' that is no text or list of texts" if "output" in instance else "has no 'output'"
        )
    filled = [output.strip() for output in outputs if output.strip()]
    if not filled:
        raise FaultyRecord("has an empty 'output'")
    return prompt, filled


def _drawn(opening: str, instance: Any, words: tuple[int, int]) -> tuple[str, str]:
    """Prompt and target of one instance."""
    prompt, outputs = asked(opening, instance)
    chosen = outputs[int(draw(*words)[0]) % len(outputs)] if len(outputs) > 1 else outputs[0]
    return joined(prompt, chosen)
