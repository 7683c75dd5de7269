"""Keyset paging: opaque cursors that say where the next page begins."""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, TypeVar

from fastapi import Depends, Query
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from siaran.errors import Invalid

Keys = TypeVar("Keys", bound=tuple[object, ...])
Row = TypeVar("Row")

DEFAULT_LIMIT = 50
MAX_LIMIT = 500
MAX_CURSOR = 1000
BIGINT = 2**63


def encode_cursor(keys: tuple[object, ...]) -> str:
    """The sort keys of the last row of a page (integers, strings, aware instants, UUIDs) as one opaque word."""
    return base64.urlsafe_b64encode(to_json(keys)).decode().rstrip("=")


def decode_cursor(cursor: str | None, shape: type[Keys]) -> Keys | None:
    """The sort keys in a cursor, `None` for the first page; `shape` is their type, such as `tuple[datetime, UUID]`.

    Raises `Invalid` for the field `cursor` when it is not one that `encode_cursor` made for this shape.
    """
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        keys: Keys = _adapter(shape).validate_json(raw)
    except (ValidationError, binascii.Error, ValueError):
        raise _not_a_cursor() from None
    if not all(_fits_the_database(key) for key in keys):
        raise _not_a_cursor()
    return keys


def _not_a_cursor() -> Invalid:
    return Invalid.field("cursor", "is not a cursor of this list; leave it out to begin with the first page")


def _fits_the_database(key: object) -> bool:
    if isinstance(key, int):
        return -BIGINT <= key < BIGINT
    return not (isinstance(key, str) and "\0" in key)


@lru_cache
def _adapter(shape: type[Keys]) -> TypeAdapter[Keys]:
    return TypeAdapter(shape)


@dataclass(frozen=True, slots=True)
class Paging:
    """Which page a caller asks for."""

    cursor: str | None
    limit: int

    def after(self, shape: type[Keys]) -> Keys | None:
        """The sort keys after which the page begins, `None` for the first page."""
        return decode_cursor(self.cursor, shape)

    @property
    def fetch(self) -> int:
        """How many rows to read: one more than asked for, which tells whether another page follows."""
        return self.limit + 1

    def cut(self, rows: Sequence[Row], keys: Callable[[Row], tuple[object, ...]]) -> tuple[list[Row], str | None]:
        """The rows of the page, and the cursor of the next one if `rows` holds the one row too many."""
        page = list(rows[: self.limit])
        return page, encode_cursor(keys(page[-1])) if len(rows) > self.limit else None


def read_paging(
    cursor: Annotated[
        str | None, Query(max_length=MAX_CURSOR, description="`next_cursor` of the page before; leave out for the first page.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many rows at most.")] = DEFAULT_LIMIT,
) -> Paging:
    """The query parameters `cursor` and `limit`."""
    return Paging(cursor, limit)


PagingDep = Annotated[Paging, Depends(read_paging)]
