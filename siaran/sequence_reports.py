"""What became of sequences: how many contacts are where, and of their messages by sequence and by step.

Everything is counted from indexes alone: contacts by sequence and status, messages by sequence, state and step.
"""

from collections import defaultdict
from collections.abc import Collection
from collections.abc import Sequence as Rows
from dataclasses import dataclass, field, fields
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, func, or_, select, tuple_, union_all
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.campaign_reports import Counts
from siaran.models import BroadcastMessage, Enrollment, EnrollmentStatus, MessageStatus, Sequence, SequenceLog, SequenceStatus
from siaran.tenancy import select_owned


@dataclass(frozen=True, slots=True)
class ContactCounts:
    """How many contacts of a sequence are where; those who were removed are in no total."""

    active: int = 0
    paused: int = 0
    completed: int = 0
    left: int = 0
    removed: int = 0

    @property
    def total(self) -> int:
        """All who are or were in it."""
        return self.active + self.paused + self.completed + self.left


@dataclass(frozen=True, slots=True)
class SequenceNumbers:
    """The contacts and messages of a sequence."""

    contacts: ContactCounts = field(default_factory=ContactCounts)
    messages: Counts = field(default_factory=Counts)


@dataclass(frozen=True, slots=True)
class SequenceFilter:
    """Which sequences of a user: those that meet all of this; `text` is part of the name or of the niche."""

    status: SequenceStatus | None = None
    text: str = ""

    def apply(self, query: Select[Sequence]) -> Select[Sequence]:
        """The query for those only, and never for deleted ones."""
        query = query.where(Sequence.deleted_at.is_(None))
        if self.status is not None:
            query = query.where(Sequence.status == self.status)
        if text := self.text.replace("\0", "").strip():
            query = query.where(or_(*(column.icontains(text, autoescape=True) for column in (Sequence.name, Sequence.niche))))
        return query


async def list_sequences(
    session: AsyncSession, user_id: UUID, wanted: SequenceFilter, *, after: tuple[datetime, UUID] | None, limit: int
) -> Rows[Sequence]:
    """A user's sequences, newest first, beginning behind (`created_at`, `id`)."""
    query = wanted.apply(select_owned(Sequence, user_id))
    if after is not None:
        query = query.where(tuple_(Sequence.created_at, Sequence.id) < tuple_(*after))
    return (await session.scalars(query.order_by(Sequence.created_at.desc(), Sequence.id.desc()).limit(limit))).all()


async def count_sequences(session: AsyncSession, user_id: UUID, wanted: SequenceFilter) -> dict[SequenceStatus, int]:
    """How many of a user's sequences have which status."""
    found = wanted.apply(select_owned(Sequence, user_id)).subquery()
    rows = (await session.execute(select(found.c.status, func.count()).group_by(found.c.status))).all()
    return {SequenceStatus(status): count for status, count in rows}


async def all_numbers(session: AsyncSession, user_id: UUID, wanted: SequenceFilter) -> dict[UUID, SequenceNumbers]:
    """The contacts and messages of all sequences that a filter lets through."""
    ids = await session.scalars(wanted.apply(select_owned(Sequence, user_id)).with_only_columns(Sequence.id))
    return await numbers_of(session, user_id, ids.all())


def add_up(found: Collection[SequenceNumbers]) -> SequenceNumbers:
    """The sums of contacts and messages."""
    sums = [sum(getattr(numbers.contacts, status.name) for numbers in found) for status in fields(ContactCounts)]
    return SequenceNumbers(ContactCounts(*sums), sum((numbers.messages for numbers in found), Counts()))


async def numbers_of(session: AsyncSession, user_id: UUID, sequence_ids: Collection[UUID]) -> dict[UUID, SequenceNumbers]:
    """The contacts and messages of some of a user's sequences; one without any has zeros."""
    contacts = await _contacts(session, user_id, sequence_ids)
    messages: dict[UUID, Counts] = {}
    for (sequence_id, _), counts in (await _messages(session, user_id, sequence_ids)).items():
        messages[sequence_id] = messages.get(sequence_id, Counts()) + counts
    return {
        sequence_id: SequenceNumbers(contacts.get(sequence_id, ContactCounts()), messages.get(sequence_id, Counts()))
        for sequence_id in sequence_ids
    }


async def numbers_by_step(session: AsyncSession, sequence: Sequence) -> tuple[SequenceNumbers, defaultdict[UUID, Counts]]:
    """A sequence's numbers, and the messages of each step by its id, those that were taken out included; else zeros."""
    contacts = (await _contacts(session, sequence.user_id, [sequence.id])).get(sequence.id, ContactCounts())
    found = await _messages(session, sequence.user_id, [sequence.id])
    by_step = defaultdict(Counts, {step_id: counts for (_, step_id), counts in found.items() if step_id is not None})
    return SequenceNumbers(contacts, sum(found.values(), Counts())), by_step


async def starting_contacts(session: AsyncSession, sequence: Sequence) -> int:
    """How many contacts have been enrolled whose workflows are still to be started."""
    query = select(func.count()).where(
        Enrollment.sequence_id == sequence.id,
        Enrollment.user_id == sequence.user_id,
        Enrollment.workflow_started_at.is_(None),
        Enrollment.status == EnrollmentStatus.ACTIVE,
    )
    return await session.scalar(query) or 0


# Both counts name their owner through the sequence, whose id alone the indexes have: so no row is read.
async def _contacts(session: AsyncSession, user_id: UUID, sequence_ids: Collection[UUID]) -> dict[UUID, ContactCounts]:
    query = (
        select(Enrollment.sequence_id, Enrollment.status, func.count())
        .join(Sequence, Sequence.id == Enrollment.sequence_id)
        .where(Sequence.user_id == user_id, Sequence.id.in_(sequence_ids))
        .group_by(Enrollment.sequence_id, Enrollment.status)
    )
    found: dict[UUID, dict[str, int]] = {}
    for sequence_id, status, count in await session.execute(query):
        found.setdefault(sequence_id, {})[EnrollmentStatus(status).value] = count
    return {sequence_id: ContactCounts(**counts) for sequence_id, counts in found.items()}


async def _messages(
    session: AsyncSession, user_id: UUID, sequence_ids: Collection[UUID]
) -> dict[tuple[UUID, UUID | None], Counts]:
    query = (
        select(Sequence.id, BroadcastMessage.step_id, BroadcastMessage.status, func.count())
        .join(Sequence, Sequence.id == BroadcastMessage.sequence_id)
        .where(Sequence.user_id == user_id, Sequence.id.in_(sequence_ids))
        .group_by(Sequence.id, BroadcastMessage.step_id, BroadcastMessage.status)
    )
    found: dict[tuple[UUID, UUID | None], dict[str, int]] = {}
    for sequence_id, step_id, status, count in await session.execute(query):
        name = "pending" if status == MessageStatus.CLAIMED else MessageStatus(status).value
        counts = found.setdefault((sequence_id, step_id), {})
        counts[name] = counts.get(name, 0) + count
    return {key: Counts(**counts) for key, counts in found.items()}


def _run(sequence: Sequence, status: MessageStatus, step_id: UUID | None, after: int | None) -> Select[int]:
    """The ids of a sequence's messages in one state, in order."""
    run = (
        select(BroadcastMessage.id, BroadcastMessage.step_id)
        .where(
            BroadcastMessage.sequence_id == sequence.id,
            BroadcastMessage.status == status,
            BroadcastMessage.id > (after or 0),
        )
        .order_by(BroadcastMessage.id)
    )
    if step_id is None:
        return run.with_only_columns(BroadcastMessage.id)
    # OFFSET 0 keeps the step's condition out of the walk: else PostgreSQL walks all messages by id for a state that few are in.
    walk = run.offset(0).subquery()
    return select(walk.c.id).where(walk.c.step_id == step_id)


async def sequence_messages(
    session: AsyncSession,
    sequence: Sequence,
    statuses: Rows[MessageStatus],
    *,
    step_id: UUID | None = None,
    after: int | None = None,
    limit: int,
) -> Rows[BroadcastMessage]:
    """A sequence's messages in these states, of one step or of all, by id, beginning behind `after`.

    The index holds them by sequence, state and id, so each state is read on its own up to the limit and then merged.
    """
    runs = [_run(sequence, status, step_id, after).limit(limit).subquery() for status in statuses]
    merged = union_all(*(select(run.c.id) for run in runs)).subquery()
    first = select(merged.c.id).order_by(merged.c.id).limit(limit).subquery()
    page = select_owned(BroadcastMessage, sequence.user_id).where(BroadcastMessage.id.in_(first.select()))
    return (await session.scalars(page.order_by(BroadcastMessage.id))).all()


@dataclass(frozen=True, slots=True)
class LastMessage:
    """What became of a contact's last message."""

    status: MessageStatus
    error: str | None


async def list_contacts(
    session: AsyncSession,
    sequence: Sequence,
    *,
    status: EnrollmentStatus | None = None,
    text: str = "",
    after: int | None = None,
    limit: int,
) -> Rows[Enrollment]:
    """A sequence's contacts by id, beginning behind `after`; without a status all but those who were removed."""
    query = select_owned(Enrollment, sequence.user_id).where(Enrollment.sequence_id == sequence.id)
    query = query.where(Enrollment.status != EnrollmentStatus.REMOVED if status is None else Enrollment.status == status)
    if text := " ".join(text.replace("\0", "").split()):
        digits = "".join(char for char in text if char.isdecimal()).lstrip("0")
        named = Enrollment.contact_name.icontains(text, autoescape=True)
        query = query.where(or_(named, Enrollment.contact_phone.contains(digits)) if digits else named)
    if after is not None:
        query = query.where(Enrollment.id > after)
    return (await session.scalars(query.order_by(Enrollment.id).limit(limit))).all()


async def last_messages(session: AsyncSession, user_id: UUID, enrollment_ids: Collection[int]) -> dict[int, LastMessage]:
    """The last message of each of some contacts, if there is one."""
    query = (
        select(
            BroadcastMessage.enrollment_id,
            BroadcastMessage.status,
            func.coalesce(BroadcastMessage.error_message, BroadcastMessage.error_code).label("error"),
        )
        .where(BroadcastMessage.user_id == user_id, BroadcastMessage.enrollment_id.in_(enrollment_ids))
        .order_by(BroadcastMessage.enrollment_id, BroadcastMessage.cycle.desc(), BroadcastMessage.scheduled_at.desc())
        .ext(distinct_on(BroadcastMessage.enrollment_id))
    )
    rows = (await session.execute(query)).all()
    return {row.enrollment_id: LastMessage(MessageStatus(row.status), row.error) for row in rows}


async def list_log(
    session: AsyncSession, sequence: Sequence, *, contact_id: int | None = None, before: int | None = None, limit: int
) -> Rows[SequenceLog]:
    """A sequence's log, newest first, of one contact or of all, beginning behind `before`."""
    query = select_owned(SequenceLog, sequence.user_id).where(SequenceLog.sequence_id == sequence.id)
    if contact_id is not None:
        query = query.where(SequenceLog.enrollment_id == contact_id)
    if before is not None:
        query = query.where(SequenceLog.id < before)
    return (await session.scalars(query.order_by(SequenceLog.id.desc()).limit(limit))).all()
