"""One contact's place in a sequence, changed by its owner: pausing, resuming, skipping, starting over, removing.

Rows alone are changed here: the caller commits and then signals the contact's workflow, which reads its row again; `wanted_at`
marks those whom a signal may have missed. When a step is due is never decided here.
"""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.contracts import EnrollmentInput
from siaran.errors import Conflict
from siaran.models import Enrollment, EnrollmentStatus, Sequence, Suppression
from siaran.sequence_logs import Event, log_events
from siaran.sequences import steps_of
from siaran.step_withdrawals import withdraw_steps
from siaran.tenancy import get_owned

OUTSIDE = (EnrollmentStatus.LEFT, EnrollmentStatus.REMOVED)
"""Those who are written to again only if they are enrolled by hand once more."""

GONE = {
    EnrollmentStatus.COMPLETED: "the contact has completed the sequence",
    EnrollmentStatus.LEFT: "the contact has left the sequence",
    EnrollmentStatus.REMOVED: "the contact was removed from the sequence",
}


def input_of(enrollment: Enrollment) -> EnrollmentInput:
    """What the contact's workflow is started or signalled with; one without a lead goes by its own number."""
    lead_id = enrollment.lead_id if enrollment.lead_id is not None else -enrollment.id
    return EnrollmentInput(enrollment.id, enrollment.sequence_id, lead_id, enrollment.user_id, enrollment.next_send_at)


def event_of(contact: Enrollment, what: str, now: datetime, *, step_id: UUID | None = None, detail: str | None = None) -> Event:
    """A line of the sequence's log about a contact."""
    return Event(contact.user_id, contact.sequence_id, contact.id, what, now, step_id, detail)


async def get_contact(session: AsyncSession, sequence: Sequence, contact_id: int, *, lock: bool = False) -> Enrollment:
    """A contact of a sequence; raises `NotFound`."""
    where = (Enrollment.id == contact_id, Enrollment.sequence_id == sequence.id)
    return await get_owned(session, Enrollment, sequence.user_id, *where, lock=lock)


async def pause_contact(session: AsyncSession, sequence: Sequence, contact_id: int, now: datetime) -> Enrollment:
    """Keep a contact where they are; a step that is queued is queued again when they go on. Raises `Conflict` at the end."""
    contact = await get_contact(session, sequence, contact_id, lock=True)
    _refuse_gone(contact)
    if contact.status == EnrollmentStatus.ACTIVE:
        await withdraw_steps(session, [contact.id])
        await session.refresh(contact)
        contact.status, contact.paused_at, contact.next_send_at = EnrollmentStatus.PAUSED, now, None
        await _note(session, contact, "paused", now)
    return contact


async def resume_contact(session: AsyncSession, sequence: Sequence, contact_id: int, now: datetime) -> Enrollment:
    """Let a contact go on where they are, the later steps put off by whole days. Raises `Conflict` at the end."""
    contact = await get_contact(session, sequence, contact_id, lock=True)
    _refuse_gone(contact)
    if contact.status == EnrollmentStatus.PAUSED:
        contact.status, contact.paused_at, contact.resumed_at = EnrollmentStatus.ACTIVE, None, now
        await _note(session, contact, "resumed", now)
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
    await _note(session, contact, "skipped", now, step_id=step.id, detail=f"day {step.day}")
    return contact


async def restart_contact(session: AsyncSession, sequence: Sequence, contact_id: int, now: datetime) -> Enrollment:
    """Have a contact begin with day 1 again, as if enrolled now. Raises `Conflict` for who was removed or has opted out."""
    contact = await get_contact(session, sequence, contact_id, lock=True)
    if contact.status == EnrollmentStatus.REMOVED:
        raise Conflict("the contact was removed from the sequence; enroll them again")
    if contact.contact_phone in await opted_out(session, sequence.user_id, [contact.contact_phone]):
        raise Conflict("the contact has opted out of your messages")
    await withdraw_steps(session, [contact.id])
    start_over(contact, now)
    await _note(session, contact, "restarted", now)
    return contact


async def remove_contact(session: AsyncSession, sequence: Sequence, contact_id: int, now: datetime) -> Enrollment:
    """Take a contact out for good; what they were sent stays, and no lead that matches is enrolled again by itself."""
    contact = await get_contact(session, sequence, contact_id, lock=True)
    if contact.status != EnrollmentStatus.REMOVED:
        await withdraw_steps(session, [contact.id])
        contact.status, contact.next_send_at, contact.paused_at = EnrollmentStatus.REMOVED, None, None
        await _note(session, contact, "removed", now)
    return contact


async def opted_out(session: AsyncSession, user_id: UUID, phones: Collection[str]) -> set[str]:
    """Those of some phones that a user must not write to any more."""
    query = select(Suppression.phone).where(
        Suppression.user_id == user_id, Suppression.phone.in_(phones), Suppression.lifted_at.is_(None)
    )
    return set(await session.scalars(query))


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


async def _note(
    session: AsyncSession,
    contact: Enrollment,
    what: str,
    now: datetime,
    *,
    step_id: UUID | None = None,
    detail: str | None = None,
) -> None:
    """Log a change, and have the contact's workflow look at it even if no signal reaches it."""
    contact.wanted_at = now
    await session.flush()
    await log_events(session, [event_of(contact, what, now, step_id=step_id, detail=detail)])
