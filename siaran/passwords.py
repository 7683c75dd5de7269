"""Passwords: the rules they must meet, and Argon2id hashes made in threads of their own."""

import asyncio
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TypeVar

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from siaran.errors import FieldError, Invalid, TooManyRequests

MIN_LENGTH = 8
MAX_LENGTH = 256

DEFAULT_PASSWORD = "changeme123"  # noqa: S105 -- published in the documentation, refused as soon as anyone else can connect
"""The first administrator's password where none was set; nobody may choose it afterwards."""

HASHES_AT_ONCE = 4
"""Each hash holds `ARGON2`'s memory while it is made."""

ARGON2 = Argon2Hasher(memory_cost=19 * 1024, time_cost=2, parallelism=1)
"""What OWASP's password storage cheat sheet asks for at least; memory in KiB. With more, log-ins slow sending down."""

MOST_WAITING = 64
"""Beyond this many waiting hashes a caller is told to come back, so that a burst of log-ins cannot pile up."""

Result = TypeVar("Result")


def check_password(password: str, field: str = "password") -> None:
    """Raise `Invalid` for `field` when a new password is too short, too long or the published default."""
    reason = _refusal(password)
    if reason:
        raise Invalid([FieldError(field, reason)])


def _refusal(password: str) -> str | None:
    if len(password) < MIN_LENGTH:
        return f"must have at least {MIN_LENGTH} characters"
    if len(password) > MAX_LENGTH:
        return f"must have at most {MAX_LENGTH} characters"
    if password == DEFAULT_PASSWORD:
        return "is the published default password; choose another"
    return None


class PasswordHasher:
    """Makes and checks Argon2id hashes, a few at a time, without holding up the event loop."""

    def __init__(self, at_once: int = HASHES_AT_ONCE, most_waiting: int = MOST_WAITING) -> None:
        self._argon2 = PasswordHash((ARGON2,))
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="argon2")
        self._most_waiting = most_waiting
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """The hash to store; raises `TooManyRequests` when too many are waiting."""
        return await self._run(lambda: self._argon2.hash(_normalise(password)))

    async def verify(self, password: str, stored: str | None) -> bool:
        """Whether the password fits the stored hash; takes as long when there is none (`None`: no such user)."""
        return await self._run(lambda: self._verify(_normalise(password), stored))

    def _verify(self, password: str, stored: str | None) -> bool:
        fits = self._argon2.verify(password, stored or self._decoy)
        return fits and stored is not None

    @cached_property
    def _decoy(self) -> str:
        return self._argon2.hash("nobody's password")

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._waiting >= self._most_waiting:
            raise TooManyRequests(1, "too many people are logging in at the moment")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1


def _normalise(password: str) -> str:
    # The same characters typed on another device may arrive as other code points.
    return unicodedata.normalize("NFC", password)


PASSWORDS = PasswordHasher()
"""The one hasher of this process."""
