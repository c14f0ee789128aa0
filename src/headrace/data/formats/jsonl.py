"""Generic `.jsonl`: a line is `{"text": ...}` or `{"prompt": ..., "target": ...}`, taken as it is.

`source`, or the Pile's `meta.pile_set_name`, says where a record came from, if it says so at all. Whitespace
is kept to the last byte: prompt and target are put one after the other as they stand.
"""

from headrace.data.formats.document import Document, Origin, Parse, Record, filled_field, nonempty_field, text_field


def parser(origin: Origin) -> Parse:
    """Parse records that have `text`, or `prompt` and `target`."""
    file = origin.file

    def parse(values: Record, line: int) -> Document:
        source = origin.source(_subset(values))
        if "text" in values:
            return Document(source, nonempty_field(values, "text"), "", "", file, line)
        return Document(source, "", text_field(values, "prompt"), filled_field(values, "target"), file, line)

    return parse


def _subset(values: Record) -> str:
    meta = values.get("meta")
    named = values.get("source") or (meta.get("pile_set_name") if isinstance(meta, dict) else None)
    return str(named) if named else ""
