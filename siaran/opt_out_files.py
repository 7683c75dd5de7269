"""Lists of opt-outs as files: a CSV file with a column of phones, or plain text with one phone a line."""

import csv
import io
from collections.abc import Iterator
from typing import BinaryIO

from siaran.errors import Invalid

MOST_ROWS = 100_000
PHONE_HEADINGS = frozenset({"phone", "phone number", "phone_number", "mobile", "telephone", "number", "nombor", "telefon"})
LIFTED = "lifted_at"
"""The column of our own export that says an opt-out is none any more."""

_DELIMITERS = ",;\t"


def read_phones(file: BinaryIO) -> list[str]:
    """The phones in a file as they are written there, those that an export of ours shows as lifted left out.

    They are in the column that is headed as one, else in the first one. Raises `Invalid` for the field `file` when it is not
    text in UTF-8, holds nothing or too much.
    """
    try:
        text = file.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Invalid.field("file", "is not written in UTF-8; save it as 'CSV UTF-8'") from None
    if "\0" in text:
        raise Invalid.field("file", "is no text file")
    phones: list[str] = []
    try:
        for phone in _cells(text):
            if len(phones) == MOST_ROWS:
                raise Invalid.field("file", f"has more than {MOST_ROWS:,} rows; split it")
            phones.append(phone)
    except csv.Error as error:
        raise Invalid.field("file", f"is no CSV file: {error}") from None
    if not phones:
        raise Invalid.field("file", "holds no phone")
    return phones


def _cells(text: str) -> Iterator[str]:
    first = text.lstrip().partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    column, lifted = 0, -1
    is_first = True
    for row in rows:
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if is_first:
            is_first = False
            headings = [cell.lower() for cell in cells]
            named = [place for place, heading in enumerate(headings) if heading in PHONE_HEADINGS]
            if named:
                column = named[0]
                lifted = headings.index(LIFTED) if LIFTED in headings else -1
                continue
        if lifted < 0 or lifted >= len(cells) or not cells[lifted]:
            yield cells[column] if column < len(cells) else ""
