"""Opaque cursors."""

import base64
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from api.paging import Paging, decode_cursor, encode_cursor
from siaran.errors import Invalid

NOW = datetime(2026, 3, 1, 12, 30, 0, 123456, tzinfo=UTC)


def test_a_cursor_gives_back_its_keys():
    keys = (NOW, uuid4(), 17, "name")
    assert decode_cursor(encode_cursor(keys), tuple[datetime, UUID, int, str]) == keys


def test_no_cursor_means_the_first_page():
    assert decode_cursor(None, tuple[int]) is None


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    ["", "?", "ä", "abc", encoded("[1]"), encoded("[1, 2, 3]"), encoded('["x", 1]'), encoded('[1, "a\\u0000b"]'), encoded("{}"),
     encoded(f'[{2**63}, "x"]')],
)  # fmt: skip
def test_anything_else_is_refused_by_name(cursor: str):
    with pytest.raises(Invalid) as refused:
        decode_cursor(cursor, tuple[int, str])
    assert [error.field for error in refused.value.errors] == ["cursor"]


def test_pages_meet_without_gap_or_overlap():
    rows = list(range(10))
    seen: list[int] = []
    cursor = None
    while True:
        paging = Paging(cursor, 3)
        after = paging.after(tuple[int])
        left = [row for row in rows if after is None or row > after[0]][: paging.fetch]
        page, cursor = paging.cut(left, lambda row: (row,))
        seen += page
        if cursor is None:
            break
    assert seen == rows
