"""P3, the Public Pool of Prompts: one file, or one configuration of the hub's, for each template.

A record is `{"prompt": ..., "completion": ...}` or, on the hub, `{"inputs_pretokenized": ...,
"targets_pretokenized": ...}`; the template's name is the subset. Some exports end the completion with
`<|endoftext|>`: it is taken off, since every document is ended with that token anyway.

Source: Multitask Prompted Training (Sanh et al., arXiv:2110.08207).
"""

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
from headrace.data.formats.names import stem

END_OF_TEXT = "<|endoftext|>"
HUB_FIELDS = ("inputs_pretokenized", "targets_pretokenized")
FILE_FIELDS = ("prompt", "completion")


def parser(origin: Origin) -> Parse:
    """Parse the records of one template."""
    file, source = origin.file, origin.source(stem(origin.file))

    def parse(values: Record, line: int) -> Document:
        asked, answered = HUB_FIELDS if HUB_FIELDS[0] in values else FILE_FIELDS
        answer = filled_field(values, answered).removesuffix(END_OF_TEXT)
        if not answer.strip():
            raise FaultyRecord(f"has an empty {answered!r}")
        prompt, target = joined(text_field(values, asked), answer)
        return Document(source, "", prompt, target, file, line)

    return parse
