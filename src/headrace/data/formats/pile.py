"""The Pile: a line is `{"text": ..., "meta": {"pile_set_name": ...}}`, and `SOURCE/SUBSET` its source.

Source: The Pile (Gao et al., arXiv:2101.00027), as its `.jsonl.zst` files are distributed.
"""

from headrace.data.formats.document import Document, FaultyRecord, Origin, Parse, Record, nonempty_field, text_field


def parser(origin: Origin) -> Parse:
    """Parse the Pile's records; one that does not say which subset it is of is faulty."""
    file = origin.file

    def parse(values: Record, line: int) -> Document:
        text = nonempty_field(values, "text")
        meta = values.get("meta")
        if not isinstance(meta, dict):
            raise FaultyRecord("has a 'meta' that is no object" if "meta" in values else "has no 'meta'")
        subset = text_field(meta, "pile_set_name")
        return Document(origin.source(subset), text, "", "", file, line)

    return parse
