"""Enrolling people in a sequence by hand: by their phones, in any form, each person once."""

from collections.abc import Sequence as Rows
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.activity_log import note_sequence
from siaran.errors import Invalid
from siaran.lead_fields import clean_name
from siaran.models import Enrollment, EnrollmentStatus, Lead, Sequence
from siaran.phone import normalise_phone
from siaran.sequence_contacts import OUTSIDE, event_of, opted_out, start_over
from siaran.sequence_logs import log_events
from siaran.sequences import get_sequence
from siaran.tenancy import select_owned

MOST = 5_000
"""Contacts enrolled by one request."""


@dataclass(frozen=True, slots=True)
class NewContact:
    """Whom to enroll: a phone in any form, and a name for who is no lead yet."""

    phone: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """A contact that was not enrolled; `position` is where it stands in the request, from 0."""

    position: int
    contact: str
    reason: str


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What enrolling by hand did; `new_leads` is how many became leads by it."""

    added: int
    already_enrolled: int
    invalid: Rows[Refused] = field(default_factory=list)
    new_leads: int = 0


async def enroll_contacts(
    session: AsyncSession, user_id: UUID, sequence_id: UUID, contacts: Rows[NewContact], *, country: str, now: datetime
) -> Enrolled:
    """Enroll people by their phones, each once; who is no lead of the user's yet becomes one, without niche.

    Who had left or been removed starts over. A phone that cannot be read, or has opted out, is refused and the others are
    enrolled. `country` is where local numbers are dialled. Raises `Invalid` for none, or too many, contacts.
    """
    sequence = await get_sequence(session, user_id, sequence_id, lock=True)
    if not 1 <= len(contacts) <= MOST:
        raise Invalid.field("contacts", f"must name 1 to {MOST:,} contacts")
    people, refused, repeated = _read(contacts, country)
    silent = await opted_out(session, user_id, people)
    refused += [
        Refused(position, contacts[position].phone, "has opted out of your messages")
        for phone, (position, _) in people.items()
        if phone in silent
    ]
    names = {phone: name for phone, (_, name) in people.items() if phone not in silent}
    new_leads = await _add_leads(session, user_id, names, now)
    added = await _enroll(session, sequence, names, now)
    if added:
        note_sequence(session, sequence, "enrolled", contacts=added)
    already = len(names) - added + repeated
    return Enrolled(added, already, sorted(refused, key=lambda refusal: refusal.position), new_leads)


def _read(contacts: Rows[NewContact], country: str) -> tuple[dict[str, tuple[int, str]], list[Refused], int]:
    """Position and name by phone in normal form, those that make no sense, and how many were named more than once."""
    people: dict[str, tuple[int, str]] = {}
    refused = []
    repeated = 0
    for position, contact in enumerate(contacts):
        try:
            phone = normalise_phone(contact.phone, country)
            name = clean_name(contact.name) if contact.name.strip() else ""
        except Invalid as error:
            refused.append(Refused(position, contact.phone[:100].replace("\0", ""), error.errors[0].reason))
            continue
        repeated += phone in people
        people.setdefault(phone, (position, name))
    return people, refused, repeated


async def _add_leads(session: AsyncSession, user_id: UUID, names: dict[str, str], now: datetime) -> int:
    rows = [
        {"user_id": user_id, "phone": phone, "name": name, "source": "sequence", "created_at": now, "updated_at": now}
        for phone, name in sorted(names.items())
    ]
    if not rows:
        return 0
    statement = insert(Lead).on_conflict_do_nothing(index_elements=["user_id", "phone"]).returning(Lead.id)
    return len((await session.scalars(statement, rows)).all())


async def _enroll(session: AsyncSession, sequence: Sequence, names: dict[str, str], now: datetime) -> int:
    """Write who is new, bring back who was outside; returns how many that are."""
    query = select(Lead.id, Lead.phone, Lead.name).where(Lead.user_id == sequence.user_id, Lead.phone.in_(names))
    leads = (await session.execute(query.order_by(Lead.id))).all()
    rows = [
        {
            "user_id": sequence.user_id,
            "sequence_id": sequence.id,
            "lead_id": lead.id,
            "contact_phone": lead.phone,
            "contact_name": lead.name,
            "status": EnrollmentStatus.ACTIVE,
            "enrolled_at": now,
        }
        for lead in leads
    ]
    if not rows:
        return 0
    statement = insert(Enrollment).on_conflict_do_nothing().returning(Enrollment)
    new = (await session.scalars(statement, rows)).all()
    returned = await _bring_back(session, sequence, {lead.id: lead.phone for lead in leads}, now)
    await session.flush()
    added = [*new, *returned]
    await log_events(session, [event_of(enrollment, "enrolled", now, detail="by hand") for enrollment in added])
    return len(added)


async def _bring_back(session: AsyncSession, sequence: Sequence, leads: dict[int, str], now: datetime) -> list[Enrollment]:
    """Have those start over who had left or been removed; who has another phone since is written to there."""
    query = select_owned(Enrollment, sequence.user_id).where(
        Enrollment.sequence_id == sequence.id,
        or_(Enrollment.contact_phone.in_(leads.values()), Enrollment.lead_id.in_(leads)),
    )
    found = (await session.scalars(query.order_by(Enrollment.id).with_for_update())).all()
    phones = {enrollment.contact_phone for enrollment in found}
    outside = [enrollment for enrollment in found if enrollment.status in OUTSIDE]
    for enrollment in outside:
        phone = leads.get(enrollment.lead_id or 0, enrollment.contact_phone)
        if phone not in phones:
            enrollment.contact_phone = phone
        start_over(enrollment, now)
    return outside
