"""Rows of a CSV file of leads, checked one by one and handed out in batches, without a database."""

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from siaran.errors import Invalid
from siaran.lead_columns import Header
from siaran.lead_duplicates import SeenPhones
from siaran.lead_fields import clean_name, clean_niche, clean_note, parse_target_status
from siaran.leads_csv import LeadFile, Record, cell_of, unescape_cell
from siaran.phone import normalise_phone

MOST_CHARACTERS = 4_000_000
"""Of the cells of one batch: rows may be long, memory is not."""

_SHOWN_PHONE = 50


class Verdict(StrEnum):
    """What becomes of a row."""

    NEW = "new"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    DUPLICATE = "duplicate"
    INVALID = "invalid"


class LeadRow(NamedTuple):
    """A row that can be imported; `device_id` only if the row names a device."""

    line: int
    name: str
    phone: str
    niche: str
    niches: tuple[str, ...]
    target_status: str
    journey: str
    device_id: UUID | None


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that is not imported: its cells as written, the phone as far as there is one, and why."""

    line: int
    cells: list[str]
    phone: str
    verdict: Verdict
    reason: str

    def with_reason(self, width: int) -> list[str]:
        """Its cells, filled up to the header's width, then what `REASON_COLUMNS` name."""
        cells = [unescape_cell(cell) for cell in self.cells]
        return [*cells, *[""] * (width - len(cells)), str(self.line), self.verdict, self.reason]


REASON_COLUMNS = ("line", "verdict", "reason")
"""What a file of rejected rows has beyond the columns of the imported one."""


@dataclass(slots=True)
class Batch:
    """Rows that follow each other in a file, apart by whether they can be imported."""

    rows: list[LeadRow] = field(default_factory=list)
    rejected: list[RejectedRow] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows) + len(self.rejected)


@dataclass(frozen=True, slots=True)
class RowRules:
    """What rows are checked against: the country of local phones, and the devices that a row may name."""

    country: str
    device_ids: Set[UUID]


def read_batches(file: LeadFile, rules: RowRules, size: int, *, skip: int = 0) -> Iterator[Batch]:
    """The rows of a file in batches of up to `size`; of several rows with one phone only the first can be imported.

    The first `skip` rows are read only to remember their phones: an empty batch stands for each `size` of them.
    """
    seen = SeenPhones()
    batch = Batch()
    characters = 0
    for number, record in enumerate(file.records()):
        checked = _check(record, file.header, rules, seen)
        if number < skip:
            if number % size == size - 1:
                yield Batch()
            continue
        if isinstance(checked, LeadRow):
            batch.rows.append(checked)
        else:
            batch.rejected.append(checked)
        characters += sum(map(len, record.cells))
        if len(batch) >= size or characters >= MOST_CHARACTERS:
            yield batch
            batch, characters = Batch(), 0
    if batch:
        yield batch


def _check(record: Record, header: Header, rules: RowRules, seen: SeenPhones) -> LeadRow | RejectedRow:
    if record.problem:
        return _rejected(record, header, Verdict.INVALID, record.problem)
    try:
        row = parse_row(record, header, rules)
    except Invalid:
        return _rejected(record, header, Verdict.INVALID, "; ".join(_problems(record, header, rules)))
    first = seen.first_line(row.phone, row.line)
    if first != row.line:
        return _rejected(record, header, Verdict.DUPLICATE, f"has the phone of line {first}", row.phone)
    return row


def parse_row(record: Record, header: Header, rules: RowRules) -> LeadRow:
    """The row of a record that can be read; raises `Invalid` for the first field that is wrong."""
    niche = clean_niche(cell_of(header, record, "niche"))
    return LeadRow(
        line=record.line,
        name=clean_name(cell_of(header, record, "name")),
        phone=normalise_phone(cell_of(header, record, "phone"), rules.country),
        niche=niche.text,
        niches=niche.tags,
        target_status=parse_target_status(cell_of(header, record, "target_status")),
        journey=clean_note(cell_of(header, record, "additional_note")),
        device_id=_parse_device(cell_of(header, record, "device_id"), rules.device_ids),
    )


def _problems(record: Record, header: Header, rules: RowRules) -> Iterator[str]:
    """Everything that is wrong with a record's fields."""
    checks: dict[str, Callable[[str], object]] = {
        "name": clean_name,
        "phone": lambda raw: normalise_phone(raw, rules.country),
        "niche": clean_niche,
        "target_status": parse_target_status,
        "additional_note": clean_note,
        "device_id": lambda raw: _parse_device(raw, rules.device_ids),
    }
    for column, check in checks.items():
        try:
            check(cell_of(header, record, column))
        except Invalid as error:
            yield str(error)


def _parse_device(raw: str, device_ids: Set[UUID]) -> UUID | None:
    text = raw.strip()
    if not text:
        return None
    try:
        device_id = UUID(text)
    except ValueError:
        device_id = None
    if device_id not in device_ids:
        raise Invalid.field("device_id", "is none of your devices")
    return device_id


def _rejected(record: Record, header: Header, verdict: Verdict, reason: str, phone: str = "") -> RejectedRow:
    shown = phone or cell_of(header, record, "phone").strip()[:_SHOWN_PHONE]
    return RejectedRow(record.line, record.cells, shown, verdict, reason)
