"""Columns are found under the names that people give them, or under those that the user says."""

import io

import pytest

from siaran.errors import Invalid
from siaran.leads_csv import LeadFile, cell_of

ALI = {"name": "Ali", "phone": "0123456789"}


def read(content: str, columns: dict[str, str] | None = None, delimiter: str = "") -> dict[str, str]:
    """What the only record says for each column that the file has."""
    file = LeadFile(io.BytesIO(content.encode()), columns, delimiter)
    (record,) = file.records()
    return {column: cell_of(file.header, record, column) for column in file.header.positions}


def refusal(content: str, columns: dict[str, str]) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        LeadFile(io.BytesIO(content.encode()), columns)
    return {error.field: error.reason for error in caught.value.errors}


@pytest.mark.parametrize(
    "header",
    ["nama,telefon", "Full Name,No. Telefon", "NAMA PENUH,No HP", "name,Mobile", "Nama,WhatsApp", "customer_name,Phone Number"],
)
def test_usual_other_headings_are_known(header):
    assert read(f"{header}\nAli,0123456789\n") == ALI


def test_tags_status_and_notes_have_other_headings_too():
    found = read("nama,hp,tags,status,catatan\nAli,0123456789,VIP,customer,x\n")
    assert found == {**ALI, "niche": "VIP", "target_status": "customer", "additional_note": "x"}


def test_of_several_headings_for_one_column_its_own_name_counts_then_the_first_that_is_known():
    assert read("WhatsApp,Phone,Name\n1,0123456789,Ali\n") == ALI
    assert read("WhatsApp,Mobile,Name\n1,0123456789,Ali\n") == ALI


def test_the_user_says_which_heading_holds_a_column():
    columns = {"phone": "Hubungi", "name": " pelanggan "}
    assert read("Pelanggan;Hubungi;phone\nAli;0123456789;none\n", columns) == ALI
    assert read("Hubungi,hubungi,Pelanggan\n0123456789,none,Ali\n", columns) == ALI


def test_a_column_that_the_user_has_given_away_is_not_taken_for_another():
    found = read("name,phone,notes\nAli,0123456789,VIP\n", {"niche": "notes"})
    assert found == {**ALI, "niche": "VIP"}


def test_a_column_with_an_empty_heading_is_left_alone():
    assert read("name,phone,status\nAli,0123456789,active\n", {"target_status": ""}) == ALI


def test_the_headings_that_were_found_lead_to_the_same_columns_again():
    content = "Nama,No. Telefon,Tags,status\nAli,0123456789,VIP,active\n"
    file = LeadFile(io.BytesIO(content.encode()), {"target_status": ""})
    assert file.header.headings == {"name": "Nama", "phone": "No. Telefon", "niche": "Tags"}
    assert read(content, {**file.header.headings, "target_status": ""}) == {**ALI, "niche": "VIP"}


def test_a_mapping_that_does_not_fit_is_refused_field_by_field():
    content = "Nama,Telefon,Nota,Nota\nAli,1,2,3\n"
    found = refusal(content, {"phone": "Hubungi", "nickname": "Nama", "niche": "Nota"})
    assert found == {
        "columns.phone": "the file has no column 'Hubungi'; its first line says: Nama, Telefon, Nota, Nota",
        "columns.nickname": "is none of name, phone, niche, target_status, additional_note, device_id",
        "columns.niche": "the file has the column 'Nota' twice",
    }


def test_a_required_column_that_the_user_leaves_alone_is_missing():
    assert "has no column phone" in refusal("name,phone\nAli,1\n", {"phone": ""})["file"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_separator_is_found_or_said(delimiter):
    content = delimiter.join(["Pelanggan", "Hubungi"]) + "\n" + delimiter.join(["Ali", "0123456789"])
    columns = {"name": "Pelanggan", "phone": "Hubungi"}
    assert read(content, columns) == read(content, columns, delimiter) == ALI


def test_a_file_in_utf_16_without_a_mark_is_refused():
    with pytest.raises(Invalid, match="UTF-16"):
        LeadFile(io.BytesIO("name,phone\nAli,1\n".encode("utf-16-le")))
