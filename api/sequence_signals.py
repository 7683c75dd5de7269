"""The signals that follow a committed change of a sequence or of its contacts; none of them may fail a request."""

from collections.abc import Collection, Iterable
from uuid import UUID

from api.context import Context
from siaran.contracts import EnrollmentInput, SequenceInput
from siaran.lanes import wake_lanes
from siaran.models import Enrollment, Sequence
from siaran.sequence_contacts import input_of
from siaran.sequence_retries import OpenRetry
from siaran.sequence_signals import nudge_sequence, nudge_sequences, request_step_retry, signal_enrollments

AT_ONCE = 50
"""Retries that a request signals itself; the sequence's workflow sees to the others, and to those that were not reached."""


async def signal_sequence(context: Context, sequence: Sequence, devices: Collection[UUID] = ()) -> None:
    """Have the sequence's workflow look at its row, and wake the lanes of devices that may have waited for nothing but this."""
    await nudge_sequence(context.temporal, SequenceInput(sequence.id, sequence.user_id))
    if devices:
        await wake_lanes(context.sessions, context.temporal, context.redis, devices)


async def signal_new_leads(context: Context, user_id: UUID) -> None:
    """Have all active sequences of a user look for new leads."""
    await nudge_sequences(context.sessions, context.temporal, user_id)


async def signal_contact(context: Context, contact: Enrollment) -> None:
    """Have a contact's workflow look at its row."""
    await signal_contacts(context, [input_of(contact)])


async def signal_contacts(context: Context, contacts: Iterable[EnrollmentInput]) -> None:
    """The same for several."""
    await signal_enrollments(context.temporal, contacts)


async def signal_retries(context: Context, sequence: SequenceInput, retries: Collection[OpenRetry]) -> None:
    """Have the contacts' workflows carry out what was asked for: the first few at once, the others by the sequence's own."""
    for item in list(retries)[:AT_ONCE]:
        if not await request_step_retry(context.temporal, item.enrollment, item.retry):
            return
    if len(retries) > AT_ONCE:
        await nudge_sequence(context.temporal, sequence)
