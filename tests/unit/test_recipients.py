"""Whom a single message goes to, in every form in which callers write it."""

import pytest

from siaran.phone import InvalidPhone
from siaran.recipients import read_recipient


@pytest.mark.parametrize(
    ("raw", "phone"),
    [
        ("012-345 6789", "60123456789"),
        ("60123456789@s.whatsapp.net", "60123456789"),
        (" 60123456789@S.WhatsApp.net ", "60123456789"),
        ("+60123456789:7@s.whatsapp.net", "60123456789"),
        ("60123456789@c.us", "60123456789"),
        ("99912345678@s.whatsapp.net", "99912345678"),
        ("6281234567890@s.whatsapp.net", "6281234567890"),
    ],
)
def test_numbers_and_addresses_of_contacts_are_read(raw: str, phone: str):
    assert read_recipient(raw, "MY") == phone


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "12",
        "@s.whatsapp.net",
        "0123456789x@s.whatsapp.net",
        "12@s.whatsapp.net",
        "1203@g.us",
        "1@lid",
        "1@newsletter",
        "1@x",
    ],
)
def test_what_is_no_contact_is_refused(raw: str):
    with pytest.raises(InvalidPhone):
        read_recipient(raw, "MY")
