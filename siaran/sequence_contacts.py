"""One contact's place in a sequence, changed by its owner: pausing, resuming, skipping, starting over, removing.

Rows alone are changed here: the caller commits and then signals the contact's workflow, which reads its row again; `wanted_at`
marks those whom a signal may have missed. When a step is due is never decided here.
"""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.contracts import EnrollmentInput
from siaran.errors import Conflict
from siaran.models import (
    BroadcastMessage,
    Enrollment,
    EnrollmentStatus,
    MessageStatus,
    Sequence,
    SequenceLog,
    SequenceStep,
)
from siaran.sequences import steps_of
from siaran.tenancy import get_owned, select_owned

OUTSIDE = (EnrollmentStatus.LEFT, EnrollmentStatus.REMOVED)
"""Those who are written to again only if they are enrolled by hand once more."""

GONE = {
    EnrollmentStatus.COMPLETED: "the contact has completed the sequence",
    EnrollmentStatus.LEFT: "the contact has left the sequence",
    EnrollmentStatus.REMOVED: "the contact was removed from the sequence",
}


def input_of(enrollment: Enrollment) -> EnrollmentInput:
    """What the contact's workflow is started or signalled with."""
    return EnrollmentInput(
        enrollment.id, enrollment.sequence_id, enrollment.lead_id or 0, enrollment.user_id, enrollment.next_send_at
    )


def log_contacts(
    session: AsyncSession,
    sequence: Sequence,
    enrollment_ids: Iterable[int],
    event: str,
    now: datetime,
    *,
    step_id: UUID | None = None,
    detail: str | None = None,
) -> None:
    """Add what happened to contacts to the sequence's log."""
    session.add_all(
        SequenceLog(
            user_id=sequence.user_id,
            sequence_id=sequence.id,
            enrollment_id=enrollment_id,
            step_id=step_id,
            event=event,
            detail=detail,
            created_at=now,
        )
        for enrollment_id in enrollment_ids
    )


async def get_contact(session: AsyncSession, sequence: Sequence, contact_id: int, *, lock: bool = False) -> Enrollment:
    """A contact of a sequence; raises `NotFound`."""
    where = (Enrollment.id == contact_id, Enrollment.sequence_id == sequence.id)
    return await get_owned(session, Enrollment, sequence.user_id, *where, lock=lock)


async def pause_contact(session: AsyncSession, sequence: Sequence, contact_id: int, now: datetime) -> Enrollment:
    """Keep a contact where they are; a step that is queued is queued again when they go on. Raises `Conflict` at the end."""
    contact = await get_contact(session, sequence, contact_id, lock=True)
    _refuse_gone(contact)
    if contact.status == EnrollmentStatus.ACTIVE:
        await _take_back(session, sequence, contact)
        contact.status, contact.paused_at, contact.next_send_at = EnrollmentStatus.PAUSED, now, None
        _changed(session, sequence, contact, "paused", now)
    return contact


async def resume_contact(session: AsyncSession, sequence: Sequence, contact_id: int, now: datetime) -> Enrollment:
    """Let a contact go on where they are, the later steps put off by whole days. Raises `Conflict` at the end."""
    contact = await get_contact(session, sequence, contact_id, lock=True)
    _refuse_gone(contact)
    if contact.status == EnrollmentStatus.PAUSED:
        contact.status, contact.paused_at, contact.resumed_at = EnrollmentStatus.ACTIVE, None, now
        _changed(session, sequence, contact, "resumed", now)
    return contact


async def skip_step(session: AsyncSession, sequence: Sequence, contact_id: int, now: datetime) -> Enrollment:
    """Pass over the contact's next step, which is not queued yet. Raises `Conflict` where there is none, and at the end."""
    contact = await get_contact(session, sequence, contact_id, lock=True)
    _refuse_gone(contact)
    steps = (await steps_of(session, sequence.user_id, [sequence.id]))[sequence.id]
    step = next((step for step in steps if step.day > contact.current_day), None)
    if step is None:
        raise Conflict("there is no step left to skip")
    contact.current_day = step.day
    contact.current_step += 1
    contact.next_send_at = None
    _changed(session, sequence, contact, "skipped", now, step_id=step.id, detail=f"day {step.day}")
    return contact


async def restart_contact(session: AsyncSession, sequence: Sequence, contact_id: int, now: datetime) -> Enrollment:
    """Have a contact begin with day 1 again, as if enrolled now. Raises `Conflict` for one who was removed."""
    contact = await get_contact(session, sequence, contact_id, lock=True)
    if contact.status == EnrollmentStatus.REMOVED:
        raise Conflict("the contact was removed from the sequence; enroll them again")
    await _cancel_queued(session, contact)
    start_over(contact, now)
    _changed(session, sequence, contact, "restarted", now)
    return contact


async def remove_contact(session: AsyncSession, sequence: Sequence, contact_id: int, now: datetime) -> Enrollment:
    """Take a contact out for good; what they were sent stays, and no lead that matches is enrolled again by itself."""
    contact = await get_contact(session, sequence, contact_id, lock=True)
    if contact.status != EnrollmentStatus.REMOVED:
        await _cancel_queued(session, contact)
        contact.status, contact.next_send_at, contact.paused_at = EnrollmentStatus.REMOVED, None, None
        _changed(session, sequence, contact, "removed", now)
    return contact


def _refuse_gone(contact: Enrollment) -> None:
    if contact.status in GONE:
        raise Conflict(f"{GONE[EnrollmentStatus(contact.status)]}; restart them to begin again")


def start_over(contact: Enrollment, now: datetime) -> None:
    """Put a contact back before day 1, which is found anew."""
    contact.cycle += 1
    contact.status = EnrollmentStatus.ACTIVE
    contact.current_step = contact.current_day = contact.shifted_days = 0
    contact.day_one_on = contact.day_one_time = contact.next_send_at = contact.completed_at = None
    contact.paused_at = contact.left_because = None
    contact.resumed_at = contact.wanted_at = contact.enrolled_at = now


def _changed(
    session: AsyncSession,
    sequence: Sequence,
    contact: Enrollment,
    event: str,
    now: datetime,
    *,
    step_id: UUID | None = None,
    detail: str | None = None,
) -> None:
    contact.wanted_at = now
    log_contacts(session, sequence, [contact.id], event, now, step_id=step_id, detail=detail)


async def _cancel_queued(session: AsyncSession, contact: Enrollment) -> list[UUID]:
    """Cancel what is queued and not being sent yet; returns the steps. Pending messages of sequences are in no counter."""
    cancelled = await session.scalars(
        update(BroadcastMessage)
        .where(
            BroadcastMessage.user_id == contact.user_id,
            BroadcastMessage.enrollment_id == contact.id,
            BroadcastMessage.status == MessageStatus.PENDING,
        )
        .values(status=MessageStatus.CANCELLED)
        .returning(BroadcastMessage.step_id)
        .execution_options(synchronize_session=False)
    )
    return [step_id for step_id in cancelled if step_id is not None]


async def _take_back(session: AsyncSession, sequence: Sequence, contact: Enrollment) -> None:
    """Cancel what is queued, and put the contact back before it, so that it is due again."""
    cancelled = await _cancel_queued(session, contact)
    query = select_owned(SequenceStep, sequence.user_id).where(SequenceStep.id.in_(cancelled))
    days = [step.day for step in await session.scalars(query) if step.deleted_at is None]
    if days:
        steps = (await steps_of(session, sequence.user_id, [sequence.id]))[sequence.id]
        passed = [step.day for step in steps if step.day < min(days)]
        contact.current_day = passed[-1] if passed else 0
        contact.current_step = max(contact.current_step - len(days), 0)
