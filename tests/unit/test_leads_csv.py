"""CSV files of leads are read as people and spreadsheets write them, a record at a time."""

import csv
import io
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siaran.errors import Invalid
from siaran.lead_columns import COLUMNS
from siaran.lead_duplicates import SeenPhones
from siaran.lead_rows import LeadRow, RejectedRow, RowRules, Verdict, read_batches
from siaran.leads_csv import LeadFile, cell_of, escape_cell, unescape_cell, write_records

DEVICE = UUID("0b9e42a5-4f5c-4b8e-9f0e-0f3a6c1d2e3f")
RULES = RowRules("MY", frozenset({DEVICE}))


def open_file(content: str | bytes) -> LeadFile:
    return LeadFile(io.BytesIO(content.encode() if isinstance(content, str) else content))


def rows_of(content: str | bytes) -> tuple[list[LeadRow], list[RejectedRow]]:
    """The importable rows and the rejected ones."""
    batches = list(read_batches(open_file(content), RULES, size=3))
    return [row for batch in batches for row in batch.rows], [row for batch in batches for row in batch.rejected]


def reasons_of(content: str | bytes) -> dict[int, str]:
    return {row.line: row.reason for row in rows_of(content)[1]}


def test_a_row_gives_a_lead():
    row = rows_of(f'name,phone,niche,target_status,additional_note,device_id\n Siti  Aminah ,012-345 6789,"exstart,ITADRESS",'
                  f'Customer,"says ""hi""\r\nlater",{DEVICE}\n')[0][0]  # fmt: skip
    assert row.name == "Siti Aminah"
    assert row.phone == "60123456789"
    assert row.niche == "exstart,ITADRESS"
    assert row.niches == ("EXSTART", "ITADRESS")
    assert row.target_status == "customer"
    assert row.journey == 'says "hi"\nlater'
    assert row.device_id == DEVICE


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_byte_order_mark_delimiter_and_line_ends_do_not_matter(mark, delimiter, end):
    lines = [["name", "phone", "niche"], ["Ah Meng", "0123456789", '"A,B;C"'], ["Siti", "0123456788", ""]]
    rows, rejected = rows_of(mark + end.join(delimiter.join(line) for line in lines).encode())
    assert [(row.line, row.name, row.phone, row.niches) for row in rows] == [
        (2, "Ah Meng", "60123456789", ("A", "B", "C")),
        (3, "Siti", "60123456788", ()),
    ]
    assert rejected == []


@pytest.mark.parametrize(
    "header",
    ["name,phone,status,notes", "Name , PHONE,Target Status,Journey", '"name","phone","target-status","additional_note"'],
)
def test_columns_have_aliases_and_any_case(header):
    row = rows_of(f"{header}\nAli,0123456789,customer,x\n")[0][0]
    assert (row.target_status, row.journey) == ("customer", "x")


def test_a_column_under_its_own_name_wins_over_its_alias():
    for header in ("name,phone,status,target_status", "name,phone,target_status,status"):
        cells = {"status": "new", "target_status": "customer", "name": "Ali", "phone": "0123456789"}
        content = f"{header}\n" + ",".join(cells[column] for column in header.split(","))
        assert rows_of(content)[0][0].target_status == "customer"


def test_unknown_columns_blank_lines_and_a_separator_line_are_passed_over():
    rows, rejected = rows_of("sep=;\n\nid;name;phone;\n\n7;Ali;0123456789;\n;;;\n")
    assert [(row.line, row.name) for row in rows] == [(5, "Ali")]
    assert rejected == []


def test_missing_cells_are_empty_and_an_empty_status_means_prospect():
    row = rows_of("name,phone,target_status,niche,device_id\nAli,0123456789\n")[0][0]
    assert (row.target_status, row.niche, row.device_id) == ("prospect", "", None)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("name,niche\nAli,A\n", "has no column phone"),
        ("Ali,0123456789\n", "has no column name and no column phone"),
        ("name,phone,name\n", "has the column name twice"),
        (b"PK\x03\x04 and so on", "is an Excel workbook"),
        ("name,phone\nAli,0123456789".encode("utf-16"), "is written in UTF-16"),
        ("name,phone,catatan é".encode("latin-1"), "is not written in UTF-8"),
        (b"x" * 2_000_000, "is no CSV file"),
    ],
)
def test_a_file_that_is_none_of_leads_is_refused_as_a_whole(content, reason):
    with pytest.raises(Invalid) as caught:
        open_file(content)
    assert caught.value.errors[0].field == "file"
    assert reason in caught.value.errors[0].reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (",0123456789,,,", "name: is empty"),
        ("Ali,,,,", "phone: is empty"),
        ("Ali,6.01E+10,,,", "phone: is in scientific notation"),
        ("Ali,0123456789,,lead,", "target_status: is neither prospect nor customer but 'lead'"),
        ("Ali,0123456789,,,not-an-id", "device_id: is none of your devices"),
        ("Ali,0123456789,,,5d3a1c52-98ce-4b46-a6b6-30e8e7a5f7a0", "device_id: is none of your devices"),
        ("Ali,0123456789,EXSTART,ITADRESS,prospect,", "has 6 cells, the header 5: put quotes around a cell"),
        ('"Ali" bin Abu,0123456789,,,', "has a quote that is not closed, or text after a closed one"),
        ("A\0li,0123456789,,,", "name: contains a NUL character"),
        (f"{'x' * 201},0123456789,,,", "name: is longer than 200 characters"),
        (f"Ali,0123456789,{'x' * 101},,", "niche: has a tag of over 100 characters"),
        (",12,,lead,", "name: is empty; phone: is neither a number of MY nor an international one; target_status: is neither"),
    ],
)
def test_a_bad_row_is_rejected_with_its_reasons_and_the_next_one_is_read(line, reason):
    content = f"name,phone,niche,target_status,device_id\n{line}\nSiti,0123456788,,,\n"
    rows, rejected = rows_of(content)
    assert [row.line for row in rows] == [3]
    assert [(row.line, row.verdict) for row in rejected] == [(2, Verdict.INVALID)]
    assert rejected[0].reason.startswith(reason)


def test_bytes_that_are_no_utf8_spoil_only_their_row():
    content = b"name,phone\nAli,0123456789\nJos\xe9,0123456788\nMei,0123456787\n"
    rows, rejected = rows_of(content)
    assert [row.name for row in rows] == ["Ali", "Mei"]
    assert "byte 0xE9" in rejected[0].reason


def test_a_quote_that_is_never_closed_spoils_only_its_line():
    content = 'name,phone,note\nAli,0123456789,"call him\nSiti,0123456788,"a, b"\nMei,0123456787,x\nRaj,0123456786,"last\n'
    rows, rejected = rows_of(content)
    assert [(row.line, row.name) for row in rows] == [(3, "Siti"), (4, "Mei")]
    assert [row.line for row in rejected] == [2, 5]


def test_a_quote_that_is_never_closed_does_not_swallow_a_long_file():
    others = [f"Lead {n},{n + 60_120_000_000},x" for n in range(20_000)]
    rows, rejected = rows_of("\n".join(["name,phone,note", 'Ali,0198765432,"oops', *others]))
    assert len(rows) == 20_000
    assert [row.line for row in rejected] == [2]


def test_later_rows_with_the_same_phone_are_duplicates_of_the_first():
    content = "name,phone\nAli,0123456789\nSiti,bad\nAlias,+60 12-345 6789\nMei,0123456788\nAli again,60123456789\n"
    rows, rejected = rows_of(content)
    assert [row.name for row in rows] == ["Ali", "Mei"]
    assert [(row.line, row.verdict, row.reason) for row in rejected if row.phone == "60123456789"] == [
        (4, Verdict.DUPLICATE, "has the phone of line 2"),
        (6, Verdict.DUPLICATE, "has the phone of line 2"),
    ]


def test_an_invalid_row_makes_no_duplicate_of_a_good_one():
    assert reasons_of("name,phone\n,0123456789\nAli,0123456789\n") == {2: "name: is empty"}


def test_seen_phones_remember_the_first_line_of_each():
    seen = SeenPhones()
    phones = [str(60_120_000_000 + n * 7) for n in range(20_000)]
    assert [seen.first_line(phone, line) for line, phone in enumerate(phones, start=2)] == list(range(2, 20_002))
    assert [seen.first_line(phone, 99_999) for phone in phones] == list(range(2, 20_002))
    assert len(seen) == 20_000


@given(st.text(alphabet="'=+-@\t\r\n a1", max_size=8) | st.text(max_size=8))
def test_no_written_cell_is_a_formula_and_reading_gives_it_back(text):
    escaped = escape_cell(text)
    assert not escaped.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert unescape_cell(escaped) == text


def test_a_plain_text_is_written_as_it_is():
    assert write_records([COLUMNS, ["D'Cruz, Ann", "60123456789", "A,B", "prospect", 'say "hi"', ""]]) == (
        b"name,phone,niche,target_status,additional_note,device_id\r\n"
        b'"D\'Cruz, Ann",60123456789,"A,B",prospect,"say ""hi""",\r\n'
    )


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@given(st.lists(st.tuples(CELLS.map(str.strip).filter(bool), st.integers(120_000_000, 129_999_999), CELLS), max_size=10))
def test_what_is_written_is_read_again(leads):
    content = write_records([["name", "phone", "notes"], *[[name, f"+60{phone}", note] for name, phone, note in leads]])
    file = open_file(content)
    read = [
        tuple(cell_of(file.header, record, column) for column in ("name", "phone", "additional_note"))
        for record in file.records()
    ]
    assert read == [(name, f"+60{phone}", note) for name, phone, note in leads]


@given(st.binary(max_size=300))
def test_any_bytes_are_either_refused_or_accounted_for(noise):
    try:
        rows, rejected = rows_of(b"name,phone,notes\n" + noise)
    except Invalid:
        return
    lines = [row.line for row in rows] + [row.line for row in rejected]
    assert len(lines) == len(set(lines))
    if not rejected:
        cells = [row for row in csv.reader(io.StringIO(noise.decode(), newline="")) if any(row)]
        assert len(rows) == len(cells)
