"""Phone numbers come out in one form, whatever a person, a chat or a spreadsheet made of them."""

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siaran.errors import Invalid
from siaran.phone import InvalidPhone, _country, _parse, normalise_phone, read_digits, spell_phone

E164 = phonenumbers.PhoneNumberFormat.E164
MOBILE = "60123456789"

SAME_NUMBER = [
    "60123456789",
    "+60123456789",
    "0060123456789",
    "0123456789",
    "012-3456789",
    "012-345 6789",
    "+60 12-345 6789",
    "60 12 345 6789",
    "(012) 345.6789",
    "(+60) 12-345 6789",
    "+60 (0)12-345 6789",
    "  012 345\t6789\n",
    "'0123456789",
    '="0123456789"',
    "60123456789.0",
    "123456789",
    "012\N{NON-BREAKING HYPHEN}345\N{NO-BREAK SPACE}6789",
    "\N{LEFT-TO-RIGHT EMBEDDING}+60 12\N{EN DASH}345 6789\N{POP DIRECTIONAL FORMATTING}",
    "٠١٢٣٤٥٦٧٨٩",
    "\N{FULLWIDTH PLUS SIGN}" + "60123456789".translate({ord("0") + n: 0xFF10 + n for n in range(10)}),
]


@pytest.mark.parametrize("written", SAME_NUMBER)
def test_every_way_of_writing_a_number_gives_the_same_digits(written):
    assert normalise_phone(written, "MY") == MOBILE


@pytest.mark.parametrize(
    ("written", "digits"),
    [
        ("+65 9123 4567", "6591234567"),
        ("6591234567", "6591234567"),
        ("0065 9123 4567", "6591234567"),
        ("+44 20 7946 0958", "442079460958"),
        ("+1 (202) 555-0123", "12025550123"),
        ("+39 06 698 12345", "390669812345"),
        ("03-2123 4567", "60321234567"),
        ("011-1234 5678", "601112345678"),
    ],
)
def test_foreign_numbers_and_other_lines_are_read_too(written, digits):
    assert normalise_phone(written, "MY") == digits


@pytest.mark.parametrize(
    ("country", "written", "digits"),
    [("MY", "0123456789", MOBILE), ("ID", "0812-3456-7890", "6281234567890"), ("SG", "9123 4567", "6591234567")],
)
def test_a_local_number_belongs_to_the_default_country(country, written, digits):
    assert normalise_phone(written, country) == digits


def test_a_country_without_numbers_still_reads_international_ones():
    assert normalise_phone("+60123456789", "XX") == MOBILE
    with pytest.raises(InvalidPhone):
        normalise_phone("0123456789", "XX")


def test_where_local_numbers_have_no_prefix_bare_digits_are_local_first():
    assert normalise_phone("(202) 555-0123", "US") == "12025550123"


def test_a_range_that_is_not_allotted_yet_is_accepted():
    number = phonenumbers.parse("+60130123456")
    assert not phonenumbers.is_valid_number(number)
    for written in ("+60130123456", "60130123456", "013-012 3456", "130123456"):
        assert normalise_phone(written, "MY") == "60130123456"


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("", "is empty"),
        (" ' ", "is empty"),
        ("+", "has no digits"),
        ("6.01E+10", "scientific notation"),
        ("6,01E+10", "scientific notation"),
        ("60123e7", "contains 'e'"),
        ("012-345678", "its length or its prefix is wrong"),
        ("6012345678", "its length or its prefix is wrong"),
        ("0111-234567", "its length or its prefix is wrong"),
        ("+60 12-345 67890", "its length or its prefix is wrong"),
        ("+601234567890123", "too many digits"),
        ("+60", "too few digits"),
        ("12345", "is neither a number of MY nor an international one"),
        ("+999 123 456 789", "no country's calling code"),
        ("0000000000", "no country's calling code"),
        ("no phone", "contains 'n'"),
        ("012-345 6789 / 013-456 7890", "contains '/'"),
        ("012-345 6789 x12", "contains 'x'"),
        ("60+123456789", "a + that is not at its beginning"),
        ("++60123456789", "a + that is not at its beginning"),
        ("²0123456789", "contains '²'"),
        ("1" * 65, "is too long"),
    ],
)
def test_what_is_no_number_is_refused_with_a_reason(written, reason):
    with pytest.raises(InvalidPhone) as caught:
        normalise_phone(written, "MY")
    assert reason in caught.value.reason


def test_a_refused_number_is_invalid_input_of_the_field_phone():
    with pytest.raises(Invalid) as caught:
        normalise_phone("abc", "MY")
    assert [error.field for error in caught.value.errors] == ["phone"]


PREFIXES = st.sampled_from(["+60", "0060", "60", "0", "+600", ""])
NATIONAL = st.from_regex(r"[0-9]{6,11}", fullmatch=True) | st.from_regex(r"1[0-9]{8,9}", fullmatch=True)


@given(prefix=PREFIXES, national=NATIONAL)
def test_the_short_way_for_malaysian_numbers_agrees_with_the_library(prefix, national):
    written = prefix + national
    country = _country("MY")
    if plain := country.match_plain(written):
        assert plain == _parse(written, country)
        assert plain == phonenumbers.format_number(phonenumbers.parse(f"+60{national}"), E164).removeprefix("+")


@given(national=st.from_regex(r"1[0-9]{8,9}", fullmatch=True), prefix=st.sampled_from(["+60", "0060", "60", "0"]))
def test_every_valid_malaysian_mobile_is_accepted(national, prefix):
    number = phonenumbers.PhoneNumber(country_code=60, national_number=int(national))
    if phonenumbers.is_valid_number(number):
        assert normalise_phone(prefix + national, "MY") == f"60{national}"


@given(
    written=st.text(alphabet="0123456789 +-().'\t", max_size=20) | st.text(max_size=20),
    country=st.sampled_from(["MY", "ID", "GB", "TH", "DE"]),
)
def test_a_result_is_its_own_normal_form(written, country):
    try:
        digits = normalise_phone(written, country)
    except InvalidPhone:
        return
    assert digits.isascii()
    assert digits.isdigit()
    assert 6 <= len(digits) <= 15
    assert normalise_phone(digits, country) == digits
    assert normalise_phone("+" + digits, country) == digits


@given(region=st.sampled_from(sorted(phonenumbers.SUPPORTED_REGIONS)), country=st.sampled_from(["MY", "ID", "GB"]))
def test_the_example_number_of_every_country_is_accepted_in_international_form(region, country):
    example = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
    if example is None:
        return
    written = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
    assert "+" + normalise_phone(written, country) == phonenumbers.format_number(example, E164)


@pytest.mark.parametrize(
    ("digits", "phone"),
    [
        ("60123456789", "60123456789"),
        ("6281234567890", "6281234567890"),
        ("99912345678", "99912345678"),
        ("12345", None),
        ("1" * 16, None),
        ("+60123456789", None),
        ("status", None),
        ("٦٠١٢٣٤٥٦٧٨٩", None),
        ("", None),
    ],
)
def test_numbers_of_whatsapp_are_digits_of_some_length(digits: str, phone: str | None):
    assert read_digits(digits, "MY") == phone


@pytest.mark.parametrize(("phone", "spelt"), [("60123456789", "+60 12-345 6789"), ("99912345678", "+99912345678"), ("1", "+1")])
def test_stored_numbers_are_spelt_as_people_write_them(phone: str, spelt: str):
    assert spell_phone(phone) == spelt
