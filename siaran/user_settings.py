"""What users set for themselves: name, zone, sending hours, how often a contact is written to, opt-outs, automatic replies."""

from collections.abc import Callable, Mapping, Sequence
from datetime import time
from typing import TypedDict
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.accounts import check_country, check_full_name, check_timezone, get_user
from siaran.enrolling import want_walkers
from siaran.errors import FieldError, Invalid
from siaran.ledger.counters import recount_days
from siaran.models import Lane, LaneState, User
from siaran.opt_out_words import clean_words
from siaran.schedule import parse_time

LONGEST_ANSWER = 1_000
MOST_MESSAGES = 1_000
MOST_DAYS = 365
MOST_MINUTES = 43_200
"""The longest pause between two automatic replies to the same contact: 30 days."""

HOLDS_BACK = frozenset({"timezone", "quiet_from", "quiet_until", "sending_weekdays", "contact_limit", "contact_limit_days"})
"""Settings that decide when a message may go out: lanes that wait have to look again."""


class SettingValues(TypedDict, total=False):
    """Settings as their user wrote them; what is left out stays."""

    full_name: str
    timezone: str
    country: str
    quiet_from: str | None
    quiet_until: str | None
    sending_weekdays: list[int]
    contact_limit: int | None
    contact_limit_days: int
    opt_out_words: list[str]
    opt_out_reply: str
    auto_reply: str | None
    auto_reply_minutes: int


async def change_settings(session: AsyncSession, user_id: UUID, values: SettingValues) -> tuple[User, frozenset[str]]:
    """Change what `values` names and nothing else; returns the user and the names of what is different now.

    Raises `Invalid` with everything that is wrong; then nothing is changed.
    """
    user = await get_user(session, user_id, lock=True)
    columns = clean_settings(values)
    changed = {column: value for column, value in columns.items() if getattr(user, column) != value}
    quiet_from = changed.get("quiet_from", user.quiet_from)
    quiet_until = changed.get("quiet_until", user.quiet_until)
    if (quiet_from is None) != (quiet_until is None):
        missing = "quiet_from" if quiet_from is None else "quiet_until"
        raise Invalid.field(missing, "is missing: quiet hours have a beginning and an end, or neither")
    if quiet_from is not None and quiet_from == quiet_until:
        raise Invalid.field("quiet_until", "is the same as quiet_from; set both to null for no quiet hours")
    for column, value in changed.items():
        setattr(user, column, value)
    await session.flush()
    if "timezone" in changed:
        await recount_days(session, user_id)
        await want_walkers(session, user_id)
    await session.refresh(user)
    return user, frozenset(changed)


async def waiting_lanes(session: AsyncSession, user_id: UUID, only: UUID | None = None) -> Sequence[UUID]:
    """The devices of a user, or the one asked for, whose lanes wait for something, or may be about to.

    A lane that runs may have read the user's row before it changed, and go to sleep on what it said. To wake it is to hold its
    row, and so to wait until it has decided; if it still runs then, it is left alone.
    """
    query = select(Lane.device_id).where(Lane.user_id == user_id, Lane.state != LaneState.ASLEEP)
    if only is not None:
        query = query.where(Lane.device_id == only)
    return (await session.scalars(query)).all()


def clean_settings(values: SettingValues) -> dict[str, object]:
    """Columns of `users` for what a user wrote; raises `Invalid` with everything that is wrong."""
    columns: dict[str, object] = {}
    errors: list[FieldError] = []
    for field, value in values.items():
        try:
            columns[field] = _CLEANERS[field](value)
        except Invalid as error:
            errors.extend(error.errors)
    if errors:
        raise Invalid(errors)
    return columns


def _clock_time(field: str) -> Callable[[object], time | None]:
    return lambda value: parse_time(str(value), field).replace(second=0) if value else None


def _number(field: str, most: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if not isinstance(value, int) or not 1 <= value <= most:
            raise Invalid.field(field, f"must be 1 to {most:,}")
        return value

    return check


def _weekdays(value: object) -> list[int]:
    days = set(value) if isinstance(value, list) else set()
    if not days:
        raise Invalid.field("sending_weekdays", "names no day: nothing would ever be sent")
    if not days <= set(range(1, 8)):
        raise Invalid.field("sending_weekdays", "holds days from 1 (Monday) to 7 (Sunday)")
    return sorted(days)


def _answer(field: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        text = str(value).strip().replace("\r\n", "\n")
        if "\0" in text:
            raise Invalid.field(field, "contains a NUL character")
        if len(text) > LONGEST_ANSWER:
            raise Invalid.field(field, f"is longer than {LONGEST_ANSWER:,} characters")
        return text

    return check


_LIMIT = _number("contact_limit", MOST_MESSAGES)
_AUTO_REPLY = _answer("auto_reply")

_CLEANERS: Mapping[str, Callable[..., object]] = {
    "full_name": lambda value: check_full_name(value, "full_name"),
    "timezone": check_timezone,
    "country": check_country,
    "quiet_from": _clock_time("quiet_from"),
    "quiet_until": _clock_time("quiet_until"),
    "sending_weekdays": _weekdays,
    "contact_limit": lambda value: None if value is None else _LIMIT(value),
    "contact_limit_days": _number("contact_limit_days", MOST_DAYS),
    "opt_out_words": clean_words,
    "opt_out_reply": _answer("opt_out_reply"),
    "auto_reply": lambda value: None if value is None else _AUTO_REPLY(value),
    "auto_reply_minutes": _number("auto_reply_minutes", MOST_MINUTES),
}
