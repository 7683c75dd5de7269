"""Enrolling the leads that a sequence addresses, page by page, and finding the contacts whose workflows have to be told."""

from collections.abc import Iterable
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.audience import audience_condition
from siaran.contracts import EnrollmentInput, SequenceInput, StepRetry
from siaran.enrollment_steps import timetable_of
from siaran.models import Lead, Sequence, User
from siaran.sequence_time import Place, Timetable, due_at, first_place
from siaran.tenancy import get_owned

PAGE = 2000
"""Leads looked at in one transaction."""

OVERLAP = timedelta(minutes=5)
"""How far back leads are looked at again: the transaction of one that changed may have been committed long after it began."""

OVERDUE = timedelta(minutes=15)
"""A contact whose time has passed by so much may have been forgotten."""

OVERDUE_AT_A_TIME = 200
"""So many of them are told at a look: where all are due at once and wait for their turn, to tell them would only delay it."""

# A lead whose phone was edited keeps the place that it has under the old one. Who has opted out would leave at once.
_ENROLL = text("""
    WITH new AS (
        INSERT INTO sequence_contacts (user_id, sequence_id, lead_id, contact_phone, contact_name, cycle, current_step,
            current_day, shifted_days, status, day_one_on, day_one_time, next_send_at, enrolled_at)
        SELECT l.user_id, :sequence, l.id, l.phone, l.name, 0, 0, 0, 0, 'active', :day, :time, :next, :now
        FROM leads l
        WHERE l.user_id = :user AND l.id = ANY(CAST(:leads AS bigint[]))
            AND NOT (:leaves AND EXISTS (
                SELECT FROM suppressions x WHERE x.user_id = l.user_id AND x.phone = l.phone AND x.lifted_at IS NULL))
        ORDER BY l.id
        ON CONFLICT DO NOTHING
        RETURNING id, user_id, sequence_id
    ), logged AS (
        INSERT INTO sequence_logs (user_id, sequence_id, enrollment_id, event, detail, created_at)
        SELECT user_id, sequence_id, id, 'enrolled', 'matches', :now FROM new
        RETURNING id
    )
    SELECT count(*) FROM logged
""")

_COLUMNS = "e.id, e.sequence_id, coalesce(e.lead_id, -e.id) AS lead_id, e.user_id, e.next_send_at, e.wanted_at"

_UNSTARTED = text(f"""
    SELECT {_COLUMNS} FROM sequence_contacts e
    WHERE e.sequence_id = :sequence AND e.user_id = :user AND e.workflow_started_at IS NULL AND e.status = 'active'
    ORDER BY e.id LIMIT :most
""")  # noqa: S608 -- the names are a constant of this module

_NOTE_STARTED = text("""
    UPDATE sequence_contacts SET workflow_started_at = :now
    WHERE id = ANY(CAST(:ids AS bigint[])) AND user_id = :user AND workflow_started_at IS NULL
""")

_WANTED = text(f"""
    SELECT {_COLUMNS} FROM sequence_contacts e
    WHERE e.sequence_id = :sequence AND e.user_id = :user AND e.wanted_at IS NOT NULL
    ORDER BY e.id LIMIT :most
""")  # noqa: S608 -- the names are a constant of this module

# Whoever wants the contact once more meanwhile sets another instant.
_NOTE_TOLD = text("""
    UPDATE sequence_contacts e SET wanted_at = NULL
    FROM unnest(CAST(:ids AS bigint[]), CAST(:wanted AS timestamptz[])) AS t(id, wanted_at)
    WHERE e.id = t.id AND e.user_id = :user AND e.wanted_at = t.wanted_at
""")

_WANT_OVERDUE = text("""
    UPDATE sequence_contacts SET wanted_at = :now WHERE id IN (
        SELECT id FROM sequence_contacts
        WHERE sequence_id = :sequence AND user_id = :user AND status = 'active' AND wanted_at IS NULL
            AND (next_send_at < :overdue OR next_send_at IS NULL) AND workflow_started_at < :overdue
        ORDER BY id LIMIT :most FOR UPDATE SKIP LOCKED
    )
""")

_WANT_WALKERS = text("""
    UPDATE sequence_contacts SET wanted_at = now() WHERE id IN (
        SELECT id FROM sequence_contacts
        WHERE user_id = :user AND status = 'active' AND workflow_started_at IS NOT NULL ORDER BY id FOR UPDATE
    )
""")

# A contact of a deleted sequence whose workflow has been told to end counts as not started.
_WANT_ALL = text("""
    UPDATE sequence_contacts SET wanted_at = :now, workflow_started_at = NULL, next_send_at = NULL WHERE id IN (
        SELECT id FROM sequence_contacts
        WHERE sequence_id = :sequence AND user_id = :user AND status IN ('active', 'paused') AND workflow_started_at IS NOT NULL
        ORDER BY id FOR UPDATE
    )
""")

_CANCEL = text("""
    UPDATE broadcast_messages SET status = 'cancelled' WHERE id IN (
        SELECT id FROM broadcast_messages
        WHERE sequence_id = :sequence AND user_id = :user AND status = 'pending' ORDER BY id LIMIT :most FOR UPDATE
    ) AND status = 'pending'
    RETURNING id
""")

_RETRIES = text("""
    SELECT r.message_id, e.id, e.sequence_id, coalesce(e.lead_id, -e.id) AS lead_id, e.user_id
    FROM sequence_retries r
    JOIN sequence_contacts e ON e.id = r.enrollment_id AND e.user_id = r.user_id
    WHERE r.sequence_id = :sequence AND r.user_id = :user AND r.done_at IS NULL
    ORDER BY r.id LIMIT :most
""")


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last lead that was looked at."""

    updated_at: datetime
    lead_id: int


@dataclass(frozen=True, slots=True)
class Page:
    """How many one page enrolled, and where the next one begins; None where there is no other.

    `is_open` says that the sequence takes contacts at all: it is active, and has steps.
    """

    enrolled: int
    cursor: Cursor | None
    is_open: bool = True


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where contacts begin who are enrolled at one instant, and when their first step is due."""

    place: Place
    first_at: datetime


def beginning(table: Timetable, at: datetime) -> Beginning | None:
    """Where a contact begins who is enrolled at that instant; None in a sequence without steps."""
    step = table.step_after(0)
    if step is None:
        return None
    place = first_place(table, at)
    return Beginning(place, due_at(table, place, step))


async def first_due(session: AsyncSession, sequence: Sequence, now: datetime) -> datetime | None:
    """When the first step would be due for a contact who is enrolled now; None in a sequence without steps."""
    zone = (await session.execute(select(User.timezone).where(User.id == sequence.user_id))).scalar_one()
    begins = beginning(await timetable_of(session, sequence, zone), now)
    return None if begins is None else begins.first_at


async def enroll_page(
    session: AsyncSession, order: SequenceInput, since_at: datetime | None, cursor: Cursor | None, now: datetime
) -> Page:
    """Enroll a page of the leads that match and have changed since; those who are, or were, enrolled stay as they are.

    Nothing happens where the sequence is not active. The caller commits, and goes on at the cursor.
    """
    row = await get_owned(session, Sequence, order.user_id, Sequence.id == order.sequence_id)
    zone = (await session.execute(select(User.timezone).where(User.id == order.user_id))).scalar_one()
    begins = beginning(await timetable_of(session, row, zone), now)
    if row.status != "active" or row.deleted_at is not None or begins is None:
        return Page(0, None, is_open=False)
    leads = await _next_leads(session, row, since_at, cursor)
    if not leads:
        return Page(0, None)
    enrolled: int = (
        await session.execute(
            _ENROLL,
            {
                "sequence": row.id,
                "user": row.user_id,
                "leads": [lead.id for lead in leads],
                "leaves": row.leave_on_opt_out,
                "day": begins.place.day_one_on,
                "time": begins.place.day_one_time,
                "next": begins.first_at,
                "now": now,
            },
        )
    ).scalar_one()
    last = leads[-1]
    return Page(enrolled, Cursor(last.updated_at, last.id) if len(leads) == PAGE else None)


async def _next_leads(
    session: AsyncSession, row: Sequence, since_at: datetime | None, cursor: Cursor | None
) -> Rows[Row[int, datetime]]:
    query = select(Lead.id, Lead.updated_at).where(audience_condition(row.user_id, row.niche, row.target_status))
    if since_at is not None:
        query = query.where(Lead.updated_at >= since_at)
    if cursor is not None:
        query = query.where(tuple_(Lead.updated_at, Lead.id) > (cursor.updated_at, cursor.lead_id))
    return (await session.execute(query.order_by(Lead.updated_at, Lead.id).limit(PAGE))).all()


async def unstarted(session: AsyncSession, order: SequenceInput, most: int) -> list[EnrollmentInput]:
    """Contacts whose workflows nobody has started yet."""
    rows = await session.execute(_UNSTARTED, {"sequence": order.sequence_id, "user": order.user_id, "most": most})
    return [_input(row) for row in rows]


async def note_started(session: AsyncSession, user_id: UUID, enrollment_ids: Iterable[int], now: datetime) -> None:
    """Write down that contacts' workflows have been started."""
    await session.execute(_NOTE_STARTED, {"ids": list(enrollment_ids), "user": user_id, "now": now})


async def wanted(session: AsyncSession, order: SequenceInput, most: int) -> list[tuple[EnrollmentInput, datetime]]:
    """Contacts whose workflows have to look at their rows, each with the instant at which somebody noted so."""
    rows = await session.execute(_WANTED, {"sequence": order.sequence_id, "user": order.user_id, "most": most})
    return [(_input(row), row.wanted_at) for row in rows]


async def note_told(session: AsyncSession, user_id: UUID, told: Rows[tuple[EnrollmentInput, datetime]]) -> None:
    """Take the notes away of contacts whose workflows have been signalled."""
    ids, instants = [contact.enrollment_id for contact, _ in told], [at for _, at in told]
    await session.execute(_NOTE_TOLD, {"ids": ids, "wanted": instants, "user": user_id})


async def want_overdue(session: AsyncSession, order: SequenceInput, now: datetime, most: int) -> None:
    """Note contacts whose time has long passed without their workflow having done anything."""
    values: dict[str, Any] = {"now": now, "overdue": now - OVERDUE, "most": most}
    await session.execute(_WANT_OVERDUE, {"sequence": order.sequence_id, "user": order.user_id, **values})


async def want_walkers(session: AsyncSession, user_id: UUID) -> None:
    """Note all contacts of a user who are under way: their clock times mean other instants now."""
    await session.execute(_WANT_WALKERS, {"user": user_id})


async def want_all(session: AsyncSession, order: SequenceInput, now: datetime) -> None:
    """Note all contacts of a deleted sequence, so that their workflows end."""
    await session.execute(_WANT_ALL, {"sequence": order.sequence_id, "user": order.user_id, "now": now})


async def cancel_queued(session: AsyncSession, order: SequenceInput, most: int) -> int:
    """Cancel some messages of a deleted sequence that nobody has claimed; returns how many. None is in a counter yet."""
    rows = await session.execute(_CANCEL, {"sequence": order.sequence_id, "user": order.user_id, "most": most})
    return len(rows.all())


async def open_retries(session: AsyncSession, order: SequenceInput, most: int) -> list[tuple[EnrollmentInput, StepRetry]]:
    """Requests to send a failed step again that no workflow has carried out."""
    rows = await session.execute(_RETRIES, {"sequence": order.sequence_id, "user": order.user_id, "most": most})
    return [
        (EnrollmentInput(row.id, row.sequence_id, row.lead_id, row.user_id), StepRetry(row.id, row.user_id, row.message_id))
        for row in rows
    ]


def _input(row: Row[Any]) -> EnrollmentInput:
    return EnrollmentInput(row.id, row.sequence_id, row.lead_id, row.user_id, row.next_send_at)
