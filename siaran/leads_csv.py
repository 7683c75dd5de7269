"""Reading and writing leads as CSV, one record at a time, whatever made the file."""

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from siaran.errors import Invalid
from siaran.lead_columns import Header, count_columns, find_columns

DELIMITERS = (",", ";", "\t", "|")

MAX_RECORD = 1_000_000
"""Characters of the longest record; more means that the file is no CSV file, or that a quote is never closed."""

# The last four are full-width, which some spreadsheets take for the plain ones.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_QUOTED_FORMULA = re.compile("'" + _FORMULA.pattern)
_UNDECODABLE = re.compile(r"[\udc80-\udcff]")
_NO_CSV = {
    b"PK\x03\x04": "is an Excel workbook or an archive",
    b"\xd0\xcf\x11\xe0": "is an old Excel workbook",
    codecs.BOM_UTF16_LE: "is written in UTF-16",
    codecs.BOM_UTF16_BE: "is written in UTF-16",
}


@dataclass(frozen=True, slots=True)
class Record:
    """One record: the line it begins on (the first of the file is 1), its cells as written, or why it cannot be read."""

    line: int
    cells: list[str]
    problem: str = ""


class LeadFile:
    """A CSV file of leads, read forward only and never as a whole.

    Finds out by itself which of `DELIMITERS` separates the cells and whether a byte order mark comes first; `columns` names
    headings of our columns that differ from what is known. Raises `Invalid` for `file` when it is no CSV file or lacks a
    required column, and for `columns.…` when it has no such heading; a bad record is handed out with its problem.
    """

    def __init__(self, file: BinaryIO, columns: Mapping[str, str] | None = None, delimiter: str = "") -> None:
        beginning = file.read(4)
        for mark, what in _NO_CSV.items():
            if beginning.startswith(mark):
                raise Invalid.field("file", f"{what}; save it as 'CSV UTF-8'")
        if b"\0" in beginning:
            raise Invalid.field("file", "is written in UTF-16, or is no text at all; save it as 'CSV UTF-8'")
        self._lines = _Lines(beginning, file)
        try:
            self.delimiter, self.header = self._read_header(columns or {}, delimiter)
        except csv.Error:
            raise Invalid.field("file", "is no CSV file: its first line is too long") from None
        self._reader = csv.reader(self._lines, delimiter=self.delimiter, strict=True)

    def records(self) -> Iterator[Record]:
        """The records after the header; empty ones are left out."""
        while (record := self._next()) is not None:
            if record.problem or any(record.cells):
                yield record

    def _read_header(self, columns: Mapping[str, str], delimiter: str) -> tuple[str, Header]:
        for line in self._lines:
            if not line.strip() or line.lower().startswith("sep="):
                continue  # Excel's way of saying which separator it uses
            if _UNDECODABLE.search(line):
                raise Invalid.field("file", "is not written in UTF-8; save it as 'CSV UTF-8'")
            guesses = [(one, _cells(line, one)) for one in ([delimiter] if delimiter else DELIMITERS)]
            found, cells = max(guesses, key=lambda guess: (count_columns(guess[1], columns), len(guess[1])))
            return found, find_columns(cells, columns)
        raise Invalid.field("file", "is empty")

    def _next(self) -> Record | None:
        line = self._lines.begin_record()
        try:
            cells = next(self._reader)
        except StopIteration:
            return None
        except csv.Error:
            # A quote that is never closed swallows what follows: give up its own line only and read the others again.
            return Record(line, self._lines.give_up_record(), "has a quote that is not closed, or text after a closed one")
        return Record(line, cells, self._problem_of(cells))

    def _problem_of(self, cells: list[str]) -> str:
        width = len(self.header.cells)
        if len(cells) > width:  # even if they are empty: the cells before may be a niche that was not quoted
            return f"has {len(cells)} cells, the header {width}: put quotes around a cell that contains the separator"
        text = "".join(cells)
        if not text.isascii() and (found := _UNDECODABLE.search(text)):
            return f"is not written in UTF-8 (byte 0x{ord(found[0]) - 0xDC00:02X}); save the file as 'CSV UTF-8'"
        return ""


class _Lines(Iterator[str]):
    """The physical lines of a file, with those of the present record kept so that they can be read again."""

    def __init__(self, beginning: bytes, file: BinaryIO) -> None:
        rest = _Rest(beginning, file)
        self._text = io.TextIOWrapper(rest, "utf-8-sig", errors="surrogateescape", newline="")  # type: ignore[type-var]  # only read
        self._again: deque[str] = deque()
        self._record: list[str] = []
        self._record_length = 0
        self._number = 0

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._text.readline(MAX_RECORD)
        if not line:
            raise StopIteration
        self._number += 1
        self._record.append(line)
        self._record_length += len(line)
        if self._record_length >= MAX_RECORD:
            raise csv.Error("record too long")
        return line

    def begin_record(self) -> int:
        """Forget the record before; returns the line on which the next one begins."""
        self._record.clear()
        self._record_length = 0
        return self._number + 1

    def give_up_record(self) -> list[str]:
        """Go back to the second line of the present record; returns the first one as its only cell."""
        first, *others = self._record
        self._again.extendleft(reversed(others))
        self._number -= len(others)
        return [first.rstrip("\r\n")]


class _Rest(io.BufferedIOBase):
    """A file whose beginning has been read already; it stays open at the end, as it belongs to someone else."""

    def __init__(self, beginning: bytes, file: BinaryIO) -> None:
        self._beginning = beginning
        self._file = file

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1, /) -> bytes:
        if self._beginning:
            beginning, self._beginning = self._beginning, b""
            return beginning
        return self._file.read(size if size > 0 else io.DEFAULT_BUFFER_SIZE)


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


def cell_of(header: Header, record: Record, column: str) -> str:
    """What a record says for one of `COLUMNS`; empty if it, or the file, has no such cell."""
    position = header.positions.get(column)
    return unescape_cell(record.cells[position]) if position is not None and position < len(record.cells) else ""


def escape_cell(text: str) -> str:
    """The text with an apostrophe in front if a spreadsheet would take it for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def unescape_cell(text: str) -> str:
    """What `escape_cell` was given."""
    return text[1:] if text.startswith("'") and _QUOTED_FORMULA.match(text) else text


def write_records(records: Sequence[Sequence[str]]) -> bytes:
    """Records as CSV in UTF-8, safe to open in a spreadsheet."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([map(escape_cell, record) for record in records])
    return text.getvalue().encode("utf-8", "surrogateescape")
