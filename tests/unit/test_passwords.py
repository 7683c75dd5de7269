"""Hashing passwords without letting log-ins take over the machine."""

import asyncio
import unicodedata
from time import perf_counter

import pytest

from siaran.errors import Invalid, TooManyRequests
from siaran.passwords import PasswordHasher, check_password


async def test_a_password_fits_its_hash_and_no_other():
    hasher = PasswordHasher()
    stored = await hasher.hash("correct horse")
    assert await hasher.verify("correct horse", stored)
    assert not await hasher.verify("incorrect horse", stored)
    assert not await hasher.verify("nobody's password", None)


async def test_a_password_fits_however_the_keyboard_composes_it():
    hasher = PasswordHasher()
    stored = await hasher.hash(unicodedata.normalize("NFD", "café société"))
    assert await hasher.verify(unicodedata.normalize("NFC", "café société"), stored)


async def test_an_unknown_user_costs_as_much_as_a_wrong_password():
    hasher = PasswordHasher(at_once=1)
    stored = await hasher.hash("correct horse")
    await hasher.verify("warm", None)

    async def quickest(known: str | None) -> float:
        times = []
        for _ in range(7):
            started = perf_counter()
            await hasher.verify("wrong", known)
            times.append(perf_counter() - started)
        return min(times)

    assert 0.4 < await quickest(None) / await quickest(stored) < 2.5


async def test_a_burst_is_turned_away_beyond_what_may_wait():
    hasher = PasswordHasher(at_once=1, most_waiting=3)
    answers = await asyncio.gather(*(hasher.hash("correct horse") for _ in range(8)), return_exceptions=True)
    assert [isinstance(answer, TooManyRequests) for answer in answers] == [False] * 3 + [True] * 5
    assert (await hasher.hash("correct horse")).startswith("$argon2id$")


@pytest.mark.parametrize("password", ["", "1234567", "x" * 257, "changeme123"])
def test_a_bad_password_is_refused_under_the_name_of_its_field(password: str):
    with pytest.raises(Invalid) as refused:
        check_password(password, "new_password")
    assert [error.field for error in refused.value.errors] == ["new_password"]


@pytest.mark.parametrize("password", ["12345678", "x" * 256])
def test_any_other_password_is_allowed(password: str):
    check_password(password)
