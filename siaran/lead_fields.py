"""The fields of a lead as people write them, cleaned and checked alike for the API, the CSV import and the command line."""

from functools import lru_cache
from typing import NamedTuple

from siaran.errors import FieldError, Invalid
from siaran.models import TargetStatus
from siaran.niches import parse_niches

NAME_LENGTH = 200
NICHE_LENGTH = 1_000
TAG_LENGTH = 100
NOTE_LENGTH = 10_000
SOURCE_LENGTH = 200


class Niche(NamedTuple):
    """What the user wrote, and the whole tags in it."""

    text: str
    tags: tuple[str, ...]


def clean_name(raw: str) -> str:
    """One line, single blanks; raises `Invalid` when nothing is left or it is too long."""
    name = " ".join(_storable("name", raw).split())
    if not name:
        raise Invalid.field("name", "is empty")
    return _bounded("name", name, NAME_LENGTH)


@lru_cache(1_000)  # a file has the same few over and over
def clean_niche(raw: str) -> Niche:
    """The text without blanks around it, and its tags; raises `Invalid` when the text or one of its tags is too long."""
    text = _bounded("niche", _trimmed("niche", raw), NICHE_LENGTH)
    tags = tuple(parse_niches(text))
    if any(len(tag) > TAG_LENGTH for tag in tags):
        raise Invalid.field("niche", f"has a tag of over {TAG_LENGTH} characters")
    return Niche(text, tags)


def clean_note(raw: str, field: str = "additional_note") -> str:
    """The text without blanks around it, lines ended by a line feed; raises `Invalid` when it is too long."""
    return _bounded(field, _trimmed(field, raw), NOTE_LENGTH)


def clean_source(raw: str, field: str = "consent_source") -> str:
    """Where something came from, on one line; raises `Invalid` when it is too long."""
    return _bounded(field, " ".join(_storable(field, raw).split()), SOURCE_LENGTH)


def parse_target_status(raw: str, field: str = "target_status") -> TargetStatus:
    """The status, `prospect` for nothing; raises `Invalid` for any other word."""
    word = raw.strip().lower()
    if not word:
        return TargetStatus.PROSPECT
    try:
        return TargetStatus(word)
    except ValueError:
        raise Invalid([FieldError(field, f"is neither prospect nor customer but {raw.strip()[:50]!r}")]) from None


def _trimmed(field: str, raw: str) -> str:
    text = _storable(field, raw).strip()
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _storable(field: str, raw: str) -> str:
    if "\0" in raw:
        raise Invalid.field(field, "contains a NUL character")
    return raw


def _bounded(field: str, text: str, length: int) -> str:
    if len(text) > length:
        raise Invalid.field(field, f"is longer than {length:,} characters")
    return text
