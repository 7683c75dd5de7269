"""Opt-outs: the phones that a user does not write to any more; listing, adding, lifting and exporting them."""

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self
from uuid import UUID

from sqlalchemy import Row, Select, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.activity_log import note
from siaran.db import SessionMaker
from siaran.errors import FieldError, Invalid
from siaran.lead_fields import clean_source
from siaran.leads_csv import write_records
from siaran.leaving import leave_on_opt_out
from siaran.models import Campaign, Device, Lead, Suppression
from siaran.phone import InvalidPhone, normalise_phone
from siaran.schedule import zone_of
from siaran.tenancy import get_owned
from siaran.webhook_news import announce_opt_outs

MANUAL = "manual"
REASON = "added by hand"
PAGE_ROWS = 5_000
BATCH = 2_000
"""Phones that are read and written before others have their turn."""
NAMED_ERRORS = 100
"""How many phones a refusal names."""

COLUMNS = ("phone", "name", "reason", "source", "device", "campaign", "opted_out_at", "lifted_at")


class OptOutState(StrEnum):
    """Whether an opt-out is heeded or has been lifted."""

    IN_FORCE = "in_force"
    LIFTED = "lifted"


@dataclass(frozen=True, slots=True)
class OptOutFilter:
    """Which opt-outs of a user: those that meet all of this; `phone` is a part of the number, however it is typed."""

    phone: str = ""
    state: OptOutState | None = None


@dataclass(frozen=True, slots=True)
class OptOut:
    """An opt-out with the names of what it mentions; `source` is `reply` for one that the contact asked for, else `manual`."""

    id: int
    phone: str
    name: str | None
    reason: str
    source: str
    device_id: UUID | None
    device_name: str | None
    campaign_id: int | None
    campaign_title: str | None
    confirmed_at: datetime | None
    created_at: datetime
    lifted_at: datetime | None

    @classmethod
    def of(cls, row: Row[Suppression, str, str, str]) -> Self:
        """A row of `_select`."""
        kept, name, device_name, title = row
        return cls(
            id=kept.id,
            phone=kept.phone,
            name=name,
            reason=kept.reason,
            source=kept.source,
            device_id=kept.device_id,
            device_name=device_name,
            campaign_id=kept.campaign_id,
            campaign_title=title,
            confirmed_at=kept.confirmed_at,
            created_at=kept.created_at,
            lifted_at=kept.lifted_at,
        )


@dataclass(frozen=True, slots=True)
class RefusedPhone:
    """A phone as it was given, and why it is none."""

    phone: str
    reason: str


@dataclass(frozen=True, slots=True)
class AddedOptOuts:
    """What became of phones that were to be added; each phone counts once however often it was given."""

    added: Sequence[str]
    already: Sequence[str]
    invalid: Sequence[RefusedPhone]


def _select(user_id: UUID, wanted: OptOutFilter) -> Select[Suppression, str, str, str]:
    query = (
        select(Suppression, Lead.name, Device.device_name, Campaign.title)
        .outerjoin(Lead, (Lead.user_id == user_id) & (Lead.phone == Suppression.phone))
        .outerjoin(Device, (Device.user_id == user_id) & (Device.id == Suppression.device_id))
        .outerjoin(Campaign, (Campaign.user_id == user_id) & (Campaign.id == Suppression.campaign_id))
        .where(Suppression.user_id == user_id)
    )
    if wanted.state is not None:
        in_force = Suppression.lifted_at.is_(None)
        query = query.where(in_force if wanted.state is OptOutState.IN_FORCE else ~in_force)
    if wanted.phone.strip():
        digits = re.sub(r"\D", "", wanted.phone, flags=re.ASCII).lstrip("0")
        query = query.where(Suppression.phone.contains(digits) if digits else text("false"))
    return query


async def list_opt_outs(
    session: AsyncSession, user_id: UUID, wanted: OptOutFilter, *, limit: int, before_id: int | None = None
) -> list[OptOut]:
    """A user's opt-outs, newest first, beginning behind `before_id`."""
    query = _select(user_id, wanted).order_by(Suppression.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(Suppression.id < before_id)
    return [OptOut.of(row) for row in await session.execute(query)]


async def find_opt_outs(session: AsyncSession, user_id: UUID, phones: Iterable[str]) -> dict[str, datetime]:
    """Since when those of the phones that may not be written to have opted out."""
    query = select(Suppression.phone, Suppression.created_at).where(
        Suppression.user_id == user_id, Suppression.phone.in_(list(phones)), Suppression.lifted_at.is_(None)
    )
    return {row.phone: row.created_at for row in await session.execute(query)}


async def add_opt_outs(
    session: AsyncSession, user_id: UUID, raw: Sequence[str], *, reason: str = "", country: str, now: datetime
) -> AddedOptOuts:
    """Suppress phones by hand, in any usual form; `country` is that of those written without one.

    Phones that are none are reported and the others added. Raises `Invalid` where none of them is a phone.
    """
    reason = clean_source(reason, "reason") or REASON
    phones: dict[str, bool] = {}
    refused: list[RefusedPhone] = []
    errors: list[FieldError] = []
    for start in range(0, len(raw), BATCH):
        read = _read_phones(raw[start : start + BATCH], start, country, refused, errors)
        unknown = sorted(set(read) - phones.keys())
        added = await _suppress(session, user_id, unknown, reason, now) if unknown else set()
        phones |= {phone: phone in added for phone in read if phone not in phones}
    if not phones:
        raise Invalid(errors[:NAMED_ERRORS] or [FieldError("phones", "is empty")])
    became = AddedOptOuts(
        added=[phone for phone, is_new in phones.items() if is_new],
        already=[phone for phone, is_new in phones.items() if not is_new],
        invalid=refused,
    )
    if became.added:
        note(session, user_id, "opt_out.added", "opt_outs", details={"phones": len(became.added)})
    return became


def _read_phones(
    raw: Sequence[str], first: int, country: str, refused: list[RefusedPhone], errors: list[FieldError]
) -> list[str]:
    """The phones in their one form; what is none goes to `refused` and `errors`, where `first` is the place of the first."""
    phones: list[str] = []
    for position, written in enumerate(raw, first):
        try:
            phones.append(normalise_phone(written, country))
        except InvalidPhone as error:
            refused.append(RefusedPhone(written, error.reason))
            errors.append(FieldError(f"phones.{position}", error.reason))
    return phones


async def _suppress(session: AsyncSession, user_id: UUID, phones: Sequence[str], reason: str, now: datetime) -> set[str]:
    """Suppress phones, in their order, that are not yet, and take them out of sequences that heed it; returns those."""
    statement = (
        insert(Suppression)
        .on_conflict_do_nothing(index_elements=["user_id", "phone"], index_where=Suppression.lifted_at.is_(None))
        .returning(Suppression.phone)
    )
    rows = [{"user_id": user_id, "phone": phone, "reason": reason, "source": MANUAL, "created_at": now} for phone in phones]
    suppressed = set(await session.scalars(statement, rows))
    gone = [(user_id, phone) for phone in sorted(suppressed)]
    await leave_on_opt_out(session, gone, now)
    await announce_opt_outs(session, gone, now)
    return suppressed


async def get_opt_out(session: AsyncSession, user_id: UUID, opt_out_id: int) -> OptOut:
    """A user's opt-out; raises `NotFound` for anyone else's."""
    await get_owned(session, Suppression, user_id, Suppression.id == opt_out_id)
    query = _select(user_id, OptOutFilter()).where(Suppression.id == opt_out_id)
    return OptOut.of((await session.execute(query)).one())


async def lift_opt_out(session: AsyncSession, user_id: UUID, opt_out_id: int, now: datetime) -> OptOut:
    """Let a phone be written to again; the row stays, and lifting it once more changes nothing.

    Raises `NotFound` for anyone else's. Messages that it has suppressed stay so.
    """
    row = await get_owned(session, Suppression, user_id, Suppression.id == opt_out_id, lock=True)
    if row.lifted_at is None:
        row.lifted_at = now
        note(session, user_id, "opt_out.lifted", f"opt_out:{opt_out_id}")
        await session.flush()
    return await get_opt_out(session, user_id, opt_out_id)


async def export_opt_outs(
    sessions: SessionMaker, user_id: UUID, wanted: OptOutFilter, *, timezone: str
) -> AsyncIterator[bytes]:
    """A user's opt-outs as CSV in UTF-8, oldest first, with times in the user's zone; every page is a short transaction."""
    zone = zone_of(timezone)

    def moment(at: datetime | None) -> str:
        return at.astimezone(zone).isoformat(timespec="seconds") if at else ""

    yield write_records([COLUMNS])
    last_id = 0
    while True:
        query = _select(user_id, wanted).where(Suppression.id > last_id).order_by(Suppression.id).limit(PAGE_ROWS)
        async with sessions.begin() as session:
            page = [OptOut.of(row) for row in await session.execute(query)]
        if not page:
            return
        yield write_records(
            [
                (
                    row.phone,
                    row.name or "",
                    row.reason,
                    row.source,
                    row.device_name or "",
                    row.campaign_title or "",
                    moment(row.created_at),
                    moment(row.lifted_at),
                )
                for row in page
            ]
        )
        last_id = page[-1].id
