"""Phone numbers, in the one form in which they are stored: digits of the international form, without `+`."""

import re
import unicodedata
from functools import cache, lru_cache

import phonenumbers
from phonenumbers import NumberParseException, PhoneMetadata, PhoneNumber, PhoneNumberFormat, ValidationResult

from siaran.errors import FieldError, Invalid

_SEPARATORS = str.maketrans("", "", " -.()")
_SCIENTIFIC = re.compile(r"\d([.,]\d+)?[eE]\+?\d+")
_SPREADSHEET_FLOAT = re.compile(r"(\d{7,})\.0+")
_TEXT_FORMULA = re.compile(r'="([^"]*)"')
_PLAIN = re.compile(r"\+?[0-9]+")
_LONGEST_INPUT = 64
_SHORTEST_NATIONAL = 6
_LONGEST_NATIONAL = 14


class InvalidPhone(Invalid):
    """The phone number is not valid."""

    def __init__(self, reason: str, field: str = "phone") -> None:
        self.reason = reason
        super().__init__([FieldError(field, reason)])


def normalise_phone(raw: str, default_country: str) -> str:
    """The digits of a number in international form, without `+`: `012-345 6789` in `MY` becomes `60123456789`.

    Understands `+60…`, `0060…`, `60…`, numbers as dialled inside `default_country` (ISO 3166, two letters), separators, digits
    of any script and what spreadsheets do to numbers. A result is its own normal form where local numbers begin with 0.
    A number of `default_country` in a range that the library does not know is accepted if others of its length begin alike:
    ranges are allotted faster than libraries are updated. Raises `InvalidPhone` with a reason.
    """
    country = _country(default_country)
    written = raw if len(raw) <= _LONGEST_INPUT and _PLAIN.fullmatch(raw) else _tidy(raw)
    plain = country.match_plain(written)
    return plain or _parse(written, country)


@lru_cache(16_384)  # the same few contacts write over and over
def read_digits(digits: str, default_country: str) -> str | None:
    """The normal form of a number as WhatsApp gives it, `None` for what is none.

    WhatsApp also has numbers that the library does not know; they are kept as they are.
    """
    if not (digits.isascii() and digits.isdigit()):
        return None
    try:
        return normalise_phone(f"+{digits}", default_country)
    except InvalidPhone:
        return digits if 6 <= len(digits) <= 15 else None


def spell_phone(phone: str) -> str:
    """A stored number as people write it: `60123456789` becomes `+60 12-345 6789`."""
    number = _read_or_none(f"+{phone}", None)
    return f"+{phone}" if number is None else phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL)


class _Country:
    """What is known of the country whose local numbers are accepted."""

    def __init__(self, region: str) -> None:
        self.region = region
        self.calling_code = phonenumbers.country_code_for_region(region)
        metadata = PhoneMetadata.metadata_for_region(region, None)
        self.local_begins_with_zero = metadata is not None and metadata.national_prefix == "0"
        kinds = [metadata.mobile, metadata.fixed_line] if metadata is not None else []
        shapes = [kind.national_number_pattern for kind in kinds if kind is not None and kind.national_number_pattern]
        self._allotted = re.compile("|".join(shapes) or "(?!)", re.ASCII)
        self._verdicts: dict[tuple[str, int], bool] = {}
        # Where 0 and nothing else precedes a local number, what is left of any form is the national number.
        plain = metadata is not None and metadata.national_prefix_for_parsing == "0"
        self._plain = re.compile(
            rf"(?:\+?{self.calling_code}|00{self.calling_code}|0)([1-9]\d+)" if plain else "(?!)", re.ASCII
        )

    def match_plain(self, written: str) -> str:
        """The normal form of a number of this country, or nothing if it needs a closer look."""
        match = self._plain.fullmatch(written)
        return f"{self.calling_code}{match[1]}" if match and self.has_numbers_like(match[1]) else ""

    def has_numbers_like(self, national: str) -> bool:
        """Whether the country has numbers of this length with these first two digits; one of each range is tried, once."""
        key = national[:2], len(national)
        verdict = self._verdicts.get(key)
        if verdict is None:
            rest = "5" * (len(national) - 5)
            verdict = _SHORTEST_NATIONAL <= len(national) <= _LONGEST_NATIONAL and any(
                self._allotted.fullmatch(f"{national[:2]}{following:03}{rest}") for following in range(1000)
            )
            self._verdicts[key] = verdict
        return verdict


@cache
def _country(region: str) -> _Country:
    return _Country(region)


def _tidy(raw: str) -> str:
    """Only digits, with a `+` in front if there is one; raises `InvalidPhone` for what cannot be read as a number."""
    text = raw if raw.isascii() else "".join(map(_to_ascii, raw))
    text = text.strip()
    if formula := _TEXT_FORMULA.fullmatch(text):
        text = formula[1].strip()
    text = text.removeprefix("'").strip()
    if not text:
        raise InvalidPhone("is empty")
    if len(text) > _LONGEST_INPUT:
        raise InvalidPhone("is too long for a phone number")
    if _SCIENTIFIC.fullmatch(text):
        raise InvalidPhone("is in scientific notation, its last digits are lost: format the column as text, export again")
    if number := _SPREADSHEET_FLOAT.fullmatch(text):
        text = number[1]
    bare = " ".join(text.split()).translate(_SEPARATORS)
    if not _PLAIN.fullmatch(bare):
        raise InvalidPhone(_why_unreadable(bare))
    return bare


def _to_ascii(char: str) -> str:
    """The ASCII character that a person means by this one."""
    if char.isdecimal():
        return str(unicodedata.decimal(char))
    category = unicodedata.category(char)
    if category == "Cf":  # invisible marks around numbers copied from a chat or a web page
        return ""
    if category == "Pd" or char == "\N{MINUS SIGN}":
        return "-"
    if char.isspace():
        return " "
    folded = unicodedata.normalize("NFKC", char)
    return folded if folded in {"+", "(", ")", "."} else char


def _why_unreadable(bare: str) -> str:
    strange = next((char for char in bare if char not in "0123456789+"), "")
    if strange:
        return f"contains {strange!r}, which is no part of a phone number"
    return "has no digits" if not bare.strip("+") else "has a + that is not at its beginning"


def _parse(written: str, country: _Country) -> str:
    """Read a tidy number with the library; which readings are tried, and in which order, depends on how it begins."""
    if written.startswith("00"):
        written = "+" + written[2:]
    if written.startswith(("+", "0")):
        return _digits(_checked(_read(written, country.region), country))
    international = _read_or_none("+" + written, None)
    is_own = international is not None and international.country_code == country.calling_code
    if international is not None and is_own and _exists(international, country):
        return _digits(international)
    local = _read_or_none(written, country.region)
    readings = [international, local] if country.local_begins_with_zero else [local, international]
    for reading in readings:
        if reading is not None and phonenumbers.is_valid_number(reading):
            return _digits(reading)
    if local is not None and _exists(local, country):
        return _digits(local)
    if international is not None and is_own:
        _checked(international, country)  # says what is wrong with it
    raise InvalidPhone(f"is neither a number of {country.region} nor an international one")


def _read(written: str, region: str | None) -> PhoneNumber:
    try:
        return phonenumbers.parse(written, region)
    except NumberParseException as error:
        if error.error_type == NumberParseException.INVALID_COUNTRY_CODE:
            raise InvalidPhone("begins with no country's calling code") from None
        raise InvalidPhone("has too many digits" if len(written) > 15 else "has too few digits") from None


def _read_or_none(written: str, region: str | None) -> PhoneNumber | None:
    try:
        return phonenumbers.parse(written, region)
    except NumberParseException:
        return None


def _checked(number: PhoneNumber, country: _Country) -> PhoneNumber:
    if _exists(number, country):
        return number
    reason = phonenumbers.is_possible_number_with_reason(number)
    if reason in {ValidationResult.TOO_SHORT, ValidationResult.IS_POSSIBLE_LOCAL_ONLY}:
        raise InvalidPhone(f"has too few digits for a number of +{number.country_code}")
    if reason == ValidationResult.TOO_LONG:
        raise InvalidPhone(f"has too many digits for a number of +{number.country_code}")
    raise InvalidPhone(f"is no number of +{number.country_code}: its length or its prefix is wrong")


def _exists(number: PhoneNumber, country: _Country) -> bool:
    """Whether the number is known to exist, or others of the default country are like it."""
    if phonenumbers.is_valid_number(number):
        return True
    national = phonenumbers.national_significant_number(number)
    return number.country_code == country.calling_code and country.has_numbers_like(national)


def _digits(number: PhoneNumber) -> str:
    return f"{number.country_code}{phonenumbers.national_significant_number(number)}"
