"""Sequences: their status, and the changes that take one from a status to another.

Every change locks the row first, so that it and whatever a workflow does to the row come one after the other. The caller
commits and then nudges the sequence's workflow, which reads the row again.
"""

from collections.abc import Sequence as Rows
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.activity_log import note_sequence
from siaran.errors import Conflict
from siaran.models import (
    BroadcastMessage,
    Enrollment,
    EnrollmentStatus,
    MessageStatus,
    Sequence,
    SequenceRetry,
    SequenceStatus,
    SequenceStep,
)
from siaran.tenancy import get_owned, select_owned, update_owned

NO_STEPS = "has no steps; add at least one before it can be active"


async def get_sequence(
    session: AsyncSession, user_id: UUID, sequence_id: UUID, *, lock: bool = False, with_deleted: bool = False
) -> Sequence:
    """A user's sequence; raises `NotFound` for anyone else's, for none, and, unless asked for, for a deleted one."""
    where: list[ColumnElement[bool]] = [Sequence.id == sequence_id]
    if not with_deleted:
        where.append(Sequence.deleted_at.is_(None))
    return await get_owned(session, Sequence, user_id, *where, lock=lock)


async def steps_of(session: AsyncSession, user_id: UUID, sequence_ids: Rows[UUID]) -> dict[UUID, list[SequenceStep]]:
    """The steps of some of a user's sequences by day; those that were taken out are none."""
    query = (
        select_owned(SequenceStep, user_id)
        .where(SequenceStep.sequence_id.in_(sequence_ids), SequenceStep.deleted_at.is_(None))
        .order_by(SequenceStep.sequence_id, SequenceStep.day)
    )
    found: dict[UUID, list[SequenceStep]] = {sequence_id: [] for sequence_id in sequence_ids}
    for step in await session.scalars(query):
        found[step.sequence_id].append(step)
    return found


async def all_steps_of(session: AsyncSession, sequence: Sequence) -> Rows[SequenceStep]:
    """The steps of a sequence by day, those that were taken out included."""
    query = select_owned(SequenceStep, sequence.user_id).where(SequenceStep.sequence_id == sequence.id)
    return (await session.scalars(query.order_by(SequenceStep.day))).all()


async def get_step(session: AsyncSession, sequence: Sequence, day: int) -> SequenceStep:
    """The step of a day; raises `NotFound` where that day has none."""
    where = (SequenceStep.sequence_id == sequence.id, SequenceStep.day == day, SequenceStep.deleted_at.is_(None))
    return await get_owned(session, SequenceStep, sequence.user_id, *where)


async def start_sequence(session: AsyncSession, user_id: UUID, sequence_id: UUID, now: datetime) -> Sequence:
    """Have it enroll and move its contacts on, from where each of them is; one that is active is left alone.

    Raises `Conflict` without any step.
    """
    sequence = await get_sequence(session, user_id, sequence_id, lock=True)
    if sequence.status != SequenceStatus.ACTIVE:
        if not (await steps_of(session, user_id, [sequence_id]))[sequence_id]:
            raise Conflict(f"the sequence {NO_STEPS}")
        await enter_status(session, sequence, SequenceStatus.ACTIVE, now)
    return sequence


async def pause_sequence(session: AsyncSession, user_id: UUID, sequence_id: UUID, now: datetime) -> Sequence:
    """Stop sending from the next message on; everyone keeps their place. One that is paused is left alone.

    Raises `Conflict` for a draft.
    """
    sequence = await get_sequence(session, user_id, sequence_id, lock=True)
    if sequence.status == SequenceStatus.DRAFT:
        raise Conflict("the sequence is a draft, which sends nothing; there is nothing to pause")
    if sequence.status != SequenceStatus.PAUSED:
        await enter_status(session, sequence, SequenceStatus.PAUSED, now)
    return sequence


async def delete_sequence(session: AsyncSession, user_id: UUID, sequence_id: UUID, now: datetime) -> Sequence:
    """Hide it and send nothing more of it; its contacts, messages and logs stay."""
    sequence = await get_sequence(session, user_id, sequence_id, lock=True)
    sequence.deleted_at = sequence.updated_at = now
    sequence.status = SequenceStatus.PAUSED  # the claims' own condition, so that nothing goes out from this instant on
    await session.execute(
        update_owned(SequenceRetry, user_id)
        .where(SequenceRetry.sequence_id == sequence_id, SequenceRetry.done_at.is_(None))
        .values(done_at=now)
    )
    note_sequence(session, sequence, "deleted")
    return sequence


async def enter_status(session: AsyncSession, sequence: Sequence, status: SequenceStatus, now: datetime) -> None:
    """Write a status into a locked sequence; steps that fell due while it was not active are put off from now on."""
    was_draft = sequence.status == SequenceStatus.DRAFT
    sequence.status = status
    sequence.updated_at = now
    if status == SequenceStatus.ACTIVE:
        sequence.resumed_at = now
        await session.flush()
        await want_contacts(session, sequence, now, only_due=True)
        note_sequence(session, sequence, "started" if was_draft else "resumed")
    else:
        note_sequence(session, sequence, "paused" if status == SequenceStatus.PAUSED else "drafted")


async def want_contacts(session: AsyncSession, sequence: Sequence, now: datetime, *, only_due: bool = False) -> None:
    """Have the workflows of everyone who is under way look at their rows; `only_due` leaves those alone that sleep on."""
    waiting = [
        Enrollment.sequence_id == sequence.id,
        Enrollment.status == EnrollmentStatus.ACTIVE,
        Enrollment.workflow_started_at.is_not(None),
    ]
    if only_due:
        waiting.append(or_(Enrollment.next_send_at.is_(None), Enrollment.next_send_at <= now))
    await session.execute(
        update_owned(Enrollment, sequence.user_id)
        .where(*waiting)
        .values(wanted_at=now)
        .execution_options(synchronize_session=False)
    )


async def devices_with_pending(session: AsyncSession, sequence: Sequence) -> list[UUID]:
    """The devices whose lanes have messages of a sequence to send."""
    query = (
        select(BroadcastMessage.device_id)
        .where(
            BroadcastMessage.user_id == sequence.user_id,
            BroadcastMessage.sequence_id == sequence.id,
            BroadcastMessage.status == MessageStatus.PENDING,
        )
        .distinct()
    )
    return list(await session.scalars(query))
