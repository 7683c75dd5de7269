"""Which column of a CSV file holds which field of a lead: the user says so, or its heading does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from siaran.errors import FieldError, Invalid

COLUMNS = ("name", "phone", "niche", "target_status", "additional_note", "device_id")
REQUIRED = ("name", "phone")

ALIASES: Mapping[str, tuple[str, ...]] = {
    "name": ("full_name", "fullname", "nama", "nama_penuh", "contact_name", "customer_name"),
    "phone": (
        "phone_number", "phone_no", "no_phone", "telefon", "no_telefon", "nombor_telefon", "telephone", "telephone_number",
        "mobile", "mobile_number", "mobile_no", "mobile_phone", "handphone", "hp", "no_hp", "whatsapp", "whatsapp_number",
        "no_whatsapp", "wa", "no_wa", "contact_number", "contact_no", "tel", "no_tel", "cell_phone", "msisdn",
    ),
    "niche": ("niches", "tags", "tag"),
    "target_status": ("status", "target"),
    "additional_note": ("notes", "note", "journey", "remarks", "remark", "catatan", "nota", "comments", "comment"),
    "device_id": ("deviceid",),
}  # fmt: skip
"""Other headings under which people keep the same; the earlier one counts where a file has several."""

_SHOWN_HEADINGS = 200


@dataclass(frozen=True, slots=True)
class Header:
    """The first record: its cells as written, and which cell of a record holds which of our columns."""

    cells: tuple[str, ...]
    positions: dict[str, int]

    @property
    def headings(self) -> dict[str, str]:
        """Our columns, each with the heading that it has in the file."""
        return {column: self.cells[position].strip() for column, position in self.positions.items()}


def count_columns(cells: Sequence[str], wanted: Mapping[str, str]) -> int:
    """How many of our columns a first record holds; tells which separator is the right one."""
    return len(_match(cells, wanted)[0])


def find_columns(cells: Sequence[str], wanted: Mapping[str, str]) -> Header:
    """Where each of our columns is. `wanted` names the heading of some of them, or nothing for one to be left alone.

    Raises `Invalid` for `columns.…` where `wanted` does not fit, and for `file` where a required column is missing.
    """
    if any("\0" in cell for cell in cells):
        raise Invalid.field("file", "has a NUL character in its first line, so it is no text")
    positions, problems = _match(cells, wanted)
    if problems:
        raise Invalid(problems)
    missing = [column for column in REQUIRED if column not in positions]
    if missing:
        raise Invalid.field(
            "file", f"has no column {' and no column '.join(missing)} in its first line, which says: {_shown(cells)}"
        )
    names = [_plain(cell) for cell in cells]
    twice = [column for column in COLUMNS if column not in wanted and names.count(column) > 1]
    if twice:
        raise Invalid.field("file", f"has the column {twice[0]} twice")
    return Header(tuple(cells), positions)


def _match(cells: Sequence[str], wanted: Mapping[str, str]) -> tuple[dict[str, int], list[FieldError]]:
    names = [_plain(cell) for cell in cells]
    positions: dict[str, int] = {}
    problems: list[FieldError] = []
    for column, heading in wanted.items():
        try:
            position = _find(column, heading, cells, names)
        except Invalid as error:
            problems += error.errors
            continue
        if position is not None:
            positions[column] = position
    taken = set(positions.values())
    for column in COLUMNS:
        if column not in wanted:
            found = [names.index(name) for name in (column, *ALIASES[column]) if name in names]
            free = [position for position in found if position not in taken]
            if free:
                positions[column] = free[0]
    return positions, problems


def _find(column: str, heading: str, cells: Sequence[str], names: Sequence[str]) -> int | None:
    """Where the heading is that somebody has named for a column, if they have; as written, else but for case and marks."""
    field = f"columns.{column}"
    if column not in COLUMNS:
        raise Invalid.field(field, f"is none of {', '.join(COLUMNS)}")
    if not heading.strip():
        return None
    exact = [position for position, cell in enumerate(cells) if cell.strip() == heading.strip()]
    alike = exact or [position for position, name in enumerate(names) if name == _plain(heading)]
    if not alike:
        raise Invalid.field(field, f"the file has no column {heading.strip()[:100]!r}; its first line says: {_shown(cells)}")
    if len(alike) > 1:
        raise Invalid.field(field, f"the file has the column {heading.strip()[:100]!r} twice")
    return alike[0]


def _plain(heading: str) -> str:
    """A heading without what does not matter: `No. Telefon` is `no_telefon`."""
    return "_".join("".join(char if char.isalnum() else " " for char in heading.lower()).split())


def _shown(cells: Sequence[str]) -> str:
    return ", ".join(cell.strip() for cell in cells)[:_SHOWN_HEADINGS]
