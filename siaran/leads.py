"""Leads: finding, adding, changing and deleting them; every query names their owner."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypedDict
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, func, literal, not_, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlalchemy.sql.util import ClauseAdapter

from siaran.audience import EVERY_STATUS, audience_condition, is_suppressed
from siaran.devices import get_device
from siaran.errors import Conflict, FieldError, Invalid
from siaran.lead_fields import clean_name, clean_niche, clean_note, clean_source, parse_target_status
from siaran.models import Lead, TargetStatus
from siaran.phone import normalise_phone
from siaran.tenancy import get_owned, select_owned

_SHORTEST_PHONE_PART = 3

NEWEST = 100
"""How many leads are looked through one by one, newest first, for each one that is wanted."""


class LeadValues(TypedDict, total=False):
    """Fields of a lead as their user wrote them; what is left out is not touched."""

    name: str
    phone: str
    niche: str
    target_status: str
    additional_note: str
    device_id: UUID | None
    consent_source: str | None
    consent_at: datetime | None


@dataclass(frozen=True, slots=True)
class LeadFilter:
    """Which leads of a user: those that meet all of this. `niche` may hold several tags, of which a lead has one or more."""

    target_status: TargetStatus | None = None
    niche: str = ""
    text: str = ""
    device_id: UUID | None = None
    opted_out: bool | None = None

    @property
    def is_narrow(self) -> bool:
        """Whether it asks for more than an index has in the order of ids."""
        return bool(self.niche.strip() or self.text.strip()) or self.opted_out is not None

    def condition(self, user_id: UUID) -> ColumnElement[bool]:
        """What a row of `leads` must meet; begins with its owner."""
        conditions = [audience_condition(user_id, self.niche, self.target_status or EVERY_STATUS)]
        if self.device_id is not None:
            conditions.append(Lead.device_id == self.device_id)
        if self.opted_out is not None:
            conditions.append(is_suppressed() if self.opted_out else not_(is_suppressed()))
        if text := " ".join(self.text.replace("\0", "").split()):
            conditions.append(_mentions(text))
        return and_(*conditions)


@dataclass(frozen=True, slots=True)
class NicheCount:
    """A tag, and how many leads of the user carry it."""

    niche: str
    leads: int


def _mentions(text: str) -> ColumnElement[bool]:
    """Whether the text is part of the name, or of the phone in whatever form it is typed."""
    named = Lead.name.icontains(text, autoescape=True)
    digits = re.sub(r"\D", "", text, flags=re.ASCII).lstrip("0")
    looks_like_phone = re.fullmatch(r"[+\d\s().-]+", text, flags=re.ASCII) and len(digits) >= _SHORTEST_PHONE_PART
    return or_(named, Lead.phone.contains(digits)) if looks_like_phone else named


def select_leads(user_id: UUID, wanted: LeadFilter) -> Select[Lead]:
    """`SELECT` of a user's leads that meet a filter."""
    return select_owned(Lead, user_id).where(wanted.condition(user_id))


async def list_leads(
    session: AsyncSession, user_id: UUID, wanted: LeadFilter, *, limit: int, before_id: int | None = None
) -> list[Lead]:
    """A user's leads, newest first, beginning behind `before_id`.

    What many leads have is found among the newest: an index of tags would hand out every lead that has one, to be sorted. What
    few have is not, and is then looked for among all.
    """
    newest = _newest(user_id, wanted, before_id).limit(NEWEST * limit).subquery("newest")
    found = aliased(Lead, newest)
    condition = ClauseAdapter(newest).traverse(wanted.condition(user_id))
    near = select(found).where(condition).order_by(found.id.desc()).limit(limit)
    leads = list((await session.execute(near)).scalars())
    if len(leads) == limit or not wanted.is_narrow:
        return leads
    everywhere = select_leads(user_id, wanted).with_only_columns(Lead.id)
    if before_id is not None:
        everywhere = everywhere.where(Lead.id < before_id)
    # Materialised, since the planner would rather walk all ids in their order than sort what an index finds.
    ids = everywhere.cte("everywhere").prefix_with("MATERIALIZED")
    page = select(ids.c.id).order_by(ids.c.id.desc()).limit(limit).subquery()
    query = select_owned(Lead, user_id).where(Lead.id.in_(page.select())).order_by(Lead.id.desc())
    return list((await session.execute(query)).scalars())


def _newest(user_id: UUID, wanted: LeadFilter, before_id: int | None) -> Select[Lead]:
    """Leads by what the indexes have in the order of ids.

    The owner is asked for in a query of its own, which hides who it is from the planner. It would walk the ids of everybody's
    leads for a user who has many, past all that others have added since.
    """
    query = select(Lead).where(Lead.user_id == select(literal(user_id)).scalar_subquery()).order_by(Lead.id.desc())
    if before_id is not None:
        query = query.where(Lead.id < before_id)
    if wanted.device_id is not None:
        query = query.where(Lead.device_id == wanted.device_id)
    if wanted.target_status is not None:
        query = query.where(Lead.target_status == wanted.target_status)
    return query


async def count_niches(session: AsyncSession, user_id: UUID) -> list[NicheCount]:
    """Every tag of a user's leads in alphabetical order, with how many leads carry it."""
    tags = select(func.unnest(Lead.niches).label("tag")).where(Lead.user_id == user_id).subquery()
    rows = await session.execute(select(tags.c.tag, func.count()).group_by(tags.c.tag).order_by(tags.c.tag))
    return [NicheCount(niche, leads) for niche, leads in rows]


async def get_lead(session: AsyncSession, user_id: UUID, lead_id: int, *, lock: bool = False) -> Lead:
    """A user's lead; raises `NotFound` for anyone else's."""
    return await get_owned(session, Lead, user_id, Lead.id == lead_id, lock=lock)


async def add_lead(session: AsyncSession, user_id: UUID, values: LeadValues, *, country: str, now: datetime) -> Lead:
    """A new lead; `country` is that of a phone written without one.

    Raises `Invalid` for its fields, `NotFound` for someone else's device, `Conflict` if the user has a lead with this phone.
    """
    columns = clean_values({"name": "", "phone": "", **values}, country)
    await _check_device(session, user_id, values.get("device_id"))
    lead = Lead(user_id=user_id, created_at=now, updated_at=now, **columns)
    async with _refuse_second_lead(session, user_id, lead.phone):
        session.add(lead)
    return lead


async def change_lead(
    session: AsyncSession, user_id: UUID, lead_id: int, values: LeadValues, *, country: str, now: datetime
) -> Lead:
    """Change what `values` names and nothing else; raises as `add_lead`, and `NotFound` for someone else's lead."""
    lead = await get_lead(session, user_id, lead_id, lock=True)
    columns = clean_values(values, country)
    if columns.get("device_id", lead.device_id) != lead.device_id:
        await _check_device(session, user_id, values.get("device_id"))
    changed = {column: value for column, value in columns.items() if getattr(lead, column) != value}
    if changed:
        async with _refuse_second_lead(session, user_id, str(columns.get("phone"))):
            for column, value in {**changed, "updated_at": now}.items():
                setattr(lead, column, value)
    return lead


async def delete_lead(session: AsyncSession, user_id: UUID, lead_id: int) -> None:
    """Remove a lead; what was sent to it stays in the ledger. Raises `NotFound` for anyone else's."""
    await session.delete(await get_lead(session, user_id, lead_id, lock=True))


def clean_values(values: LeadValues, country: str) -> dict[str, object]:
    """Columns of `leads` for what a user wrote; raises `Invalid` with everything that is wrong."""
    columns: dict[str, object] = {}
    errors: list[FieldError] = []
    for field, value in values.items():
        try:
            columns |= _clean_value(field, value, country)
        except Invalid as error:
            errors.extend(error.errors)
    if errors:
        raise Invalid(errors)
    return columns


_CLEANERS: Mapping[str, Callable[[str], dict[str, object]]] = {
    "name": lambda raw: {"name": clean_name(raw)},
    "niche": lambda raw: {"niche": clean_niche(raw).text, "niches": list(clean_niche(raw).tags)},
    "target_status": lambda raw: {"target_status": parse_target_status(raw)},
    "additional_note": lambda raw: {"journey": clean_note(raw)},
    "consent_source": lambda raw: {"consent_source": clean_source(raw) or None},
}


def _clean_value(field: str, value: object, country: str) -> dict[str, object]:
    if isinstance(value, datetime):
        return {field: _in_utc(field, value)}
    if not isinstance(value, str):
        return {field: value}
    if field == "phone":
        return {"phone": normalise_phone(value, country)}
    return _CLEANERS[field](value)


def _in_utc(field: str, instant: datetime) -> datetime:
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise Invalid.field(field, "is out of range") from None


async def _check_device(session: AsyncSession, user_id: UUID, device_id: UUID | None) -> None:
    if device_id is not None:
        await get_device(session, user_id, device_id)


@asynccontextmanager
async def _refuse_second_lead(session: AsyncSession, user_id: UUID, phone: str) -> AsyncIterator[None]:
    """Write what changes inside; raises `Conflict` that names the lead which has the phone already."""
    try:
        async with session.begin_nested():
            yield
    except IntegrityError as error:
        other = (await session.execute(select_owned(Lead, user_id).where(Lead.phone == phone))).scalar_one_or_none()
        if other is None:
            raise
        raise Conflict(f"lead {other.id} ({other.name}) has the phone {phone} already") from error
