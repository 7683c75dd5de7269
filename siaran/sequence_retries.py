"""Requests to send failed steps again; the contact's workflow carries each out once.

A request is a row for one message, open until it has been carried out. So a second click counts only what no open one covers.
"""

from collections.abc import Sequence as Rows
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import exists, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.activity_log import note_sequence
from siaran.campaign_retries import may_retry
from siaran.contracts import EnrollmentInput, StepRetry
from siaran.errors import Conflict
from siaran.models import (
    BroadcastMessage,
    Enrollment,
    EnrollmentStatus,
    MessageStatus,
    Sequence,
    SequenceRetry,
    SequenceStep,
)
from siaran.sequence_contacts import OUTSIDE, event_of, get_contact, input_of
from siaran.sequence_logs import log_events
from siaran.sequences import get_sequence
from siaran.tenancy import get_owned, select_owned

_REASONS = {
    EnrollmentStatus.LEFT: "the contact has left the sequence and is not written to again",
    EnrollmentStatus.REMOVED: "the contact was removed from the sequence and is not written to again",
}


@dataclass(frozen=True, slots=True)
class OpenRetry:
    """A retry that a contact's workflow is to carry out."""

    enrollment: EnrollmentInput
    retry: StepRetry


async def request_sequence_retry(
    session: AsyncSession,
    user_id: UUID,
    sequence_id: UUID,
    *,
    contact_id: int | None = None,
    requested_by: UUID,
    now: datetime,
) -> list[OpenRetry]:
    """Ask for every failed step of a sequence, or of one contact in it, that can be retried; returns those asked for now.

    Contacts who left or were removed, and steps that were taken out, stay as they are. Raises `NotFound` for anyone else's.
    """
    sequence = await get_sequence(session, user_id, sequence_id)
    if contact_id is not None:
        await get_contact(session, sequence, contact_id)
    failed = (
        select(
            BroadcastMessage.user_id,
            BroadcastMessage.sequence_id,
            BroadcastMessage.enrollment_id,
            BroadcastMessage.id,
            literal(requested_by),
            literal(now),
        )
        .join(Enrollment, Enrollment.id == BroadcastMessage.enrollment_id)
        .where(
            BroadcastMessage.user_id == user_id,
            BroadcastMessage.sequence_id == sequence_id,
            BroadcastMessage.status == MessageStatus.FAILED,
            BroadcastMessage.is_retryable,
            BroadcastMessage.claimed_at < now,
            Enrollment.user_id == user_id,
            Enrollment.status.not_in(OUTSIDE),
            exists().where(SequenceStep.id == BroadcastMessage.step_id, SequenceStep.deleted_at.is_(None)),
        )
    )
    if contact_id is not None:
        failed = failed.where(BroadcastMessage.enrollment_id == contact_id)
    columns = ["user_id", "sequence_id", "enrollment_id", "message_id", "requested_by", "requested_at"]
    statement = insert(SequenceRetry).from_select(columns, failed).on_conflict_do_nothing().returning(SequenceRetry.message_id)
    asked = (await session.scalars(statement)).all()
    return await _note_retries(session, sequence, asked, now)


async def request_step_message_retry(
    session: AsyncSession,
    user_id: UUID,
    sequence_id: UUID,
    message_id: int,
    *,
    confirm: bool,
    requested_by: UUID,
    now: datetime,
) -> list[OpenRetry]:
    """Ask for one message, the only way out of `unknown`, which `confirm` has to be given for.

    None for one that is queued or asked for already. Raises `Conflict` with the reason for what cannot be sent again.
    """
    sequence = await get_sequence(session, user_id, sequence_id)
    message = await get_owned(
        session, BroadcastMessage, user_id, BroadcastMessage.id == message_id, BroadcastMessage.sequence_id == sequence_id
    )
    if not may_retry(message, confirm=confirm):
        return []
    if message.enrollment_id is None:
        raise Conflict("the message belongs to no contact of the sequence")
    contact = await get_contact(session, sequence, message.enrollment_id)
    if contact.status in _REASONS:
        raise Conflict(_REASONS[EnrollmentStatus(contact.status)])
    step = await session.scalar(select_owned(SequenceStep, user_id).where(SequenceStep.id == message.step_id))
    if step is None or step.deleted_at is not None:
        raise Conflict("the step was taken out of the sequence; nothing of it is sent again")
    row = {
        "user_id": user_id,
        "sequence_id": sequence_id,
        "enrollment_id": contact.id,
        "message_id": message_id,
        "requested_by": requested_by,
        "requested_at": now,
    }
    asked = await session.scalars(
        insert(SequenceRetry).values(row).on_conflict_do_nothing().returning(SequenceRetry.message_id)
    )
    return await _note_retries(session, sequence, asked.all(), now)


async def _note_retries(session: AsyncSession, sequence: Sequence, asked: Rows[int], now: datetime) -> list[OpenRetry]:
    """Log what has been asked for at this instant; returns what the contacts' workflows are to be told."""
    if not asked:
        return []
    query = (
        select_owned(SequenceRetry, sequence.user_id)
        .add_columns(Enrollment)
        .join(Enrollment, Enrollment.id == SequenceRetry.enrollment_id)
        .where(
            SequenceRetry.sequence_id == sequence.id,
            SequenceRetry.done_at.is_(None),
            SequenceRetry.requested_at == now,
        )
        .order_by(SequenceRetry.id)
    )
    rows = (await session.execute(query)).all()
    found = [OpenRetry(input_of(contact), StepRetry(contact.id, contact.user_id, retry.message_id)) for retry, contact in rows]
    await log_events(session, [event_of(contact, "retried", now) for _, contact in rows])
    note_sequence(session, sequence, "retried", messages=len(found))
    return found
