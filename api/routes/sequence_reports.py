"""What became of a sequence: by step, message by message, its log; and sending what failed again."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.auth import UserDep
from api.campaigns import CountsView, MessageId, Retried, link_next, retry_message
from api.context import Context, ContextDep
from api.envelope import Envelope, ListEnvelope, listed, success
from api.paging import BIGINT, PagingDep
from api.routes.campaign_control import RetryOptions
from api.routes.campaign_reports import GroupQuery
from api.routes.sequence_contacts import ContactId
from api.sequence_signals import signal_retries
from api.sequences import SequenceId, SequenceStats
from siaran.campaign_messages import parse_group
from siaran.contracts import SequenceInput
from siaran.models import BroadcastMessage, MessageStatus
from siaran.sequence_contacts import get_contact
from siaran.sequence_reports import list_log, numbers_by_step, sequence_messages, starting_contacts
from siaran.sequence_retries import OpenRetry, request_sequence_retry, request_step_message_retry
from siaran.sequence_steps import MAX_DAY
from siaran.sequences import all_steps_of, get_sequence, get_step

router = APIRouter(tags=["sequences"])


class StepStats(BaseModel):
    """What became of the messages of one step."""

    step_id: UUID
    day: int
    is_deleted: bool = Field(description="Whether the step was taken out meanwhile.")
    messages: CountsView
    success_rate: float = Field(description="Percent sent of those that were tried and came to an end.")


class SequenceStatistics(BaseModel):
    """A sequence in numbers; the messages of the steps add up to those of the sequence."""

    stats: SequenceStats
    starting_contacts: int = Field(description="Contacts that have been enrolled and whose walk is just being started.")
    messages: CountsView
    steps: list[StepStats]


class SequenceLogLine(BaseModel):
    """Something that happened to a contact."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    contact_id: int = Field(validation_alias="enrollment_id")
    step_id: UUID | None
    event: str = Field(examples=["queued"])
    detail: str | None
    created_at: datetime


class StepMessage(BaseModel):
    """One contact's message of one step."""

    message_id: int
    contact_id: int | None
    device_id: UUID
    step_id: UUID | None
    name: str
    phone: str
    status: MessageStatus
    error_code: str | None
    error_message: str | None
    is_retryable: bool = Field(description="Whether sending it again may help.")
    attempts: int
    scheduled_at: datetime = Field(description="When it was due.")
    sent_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None

    @classmethod
    def of(cls, row: BroadcastMessage) -> "StepMessage":
        """A message of the ledger."""
        renamed = {
            "message_id": row.id,
            "contact_id": row.enrollment_id,
            "name": row.recipient_name,
            "phone": row.recipient_phone,
            "attempts": row.attempt,
        }
        same = {name: getattr(row, name) for name in cls.model_fields if name not in renamed}
        return cls.model_validate({**same, **renamed})


@router.get("/api/sequences/{sequence_id}/stats")
async def read_sequence_statistics(sequence_id: SequenceId, user: UserDep, context: ContextDep) -> Envelope[SequenceStatistics]:
    """Contacts and messages of a sequence, and of each of its steps."""
    async with context.sessions.begin() as session:
        sequence = await get_sequence(session, user.id, sequence_id)
        numbers, by_step = await numbers_by_step(session, sequence)
        steps = await all_steps_of(session, sequence)
        starting = await starting_contacts(session, sequence)
    rows = [
        StepStats(
            step_id=step.id,
            day=step.day,
            is_deleted=step.deleted_at is not None,
            messages=CountsView.of(counts),
            success_rate=counts.success_rate,
        )
        for step in steps
        if (counts := by_step[step.id]).total or step.deleted_at is None
    ]
    statistics = SequenceStatistics(
        stats=SequenceStats.of(numbers),
        starting_contacts=starting,
        messages=CountsView.of(numbers.messages),
        steps=rows,
    )
    return success(statistics, "Sequence statistics")


@router.get("/api/sequences/{sequence_id}/messages")
async def read_sequence_messages(
    *,
    sequence_id: SequenceId,
    user: UserDep,
    context: ContextDep,
    paging: PagingDep,
    request: Request,
    response: Response,
    status: GroupQuery = "all",
    day: Annotated[int | None, Query(ge=1, le=MAX_DAY, description="Only the step of this day.")] = None,
) -> ListEnvelope[StepMessage]:
    """The messages of a sequence by what became of them."""
    statuses = parse_group(status)
    after = paging.after(tuple[int])
    async with context.sessions.begin() as session:
        sequence = await get_sequence(session, user.id, sequence_id)
        step_id = None if day is None else (await get_step(session, sequence, day)).id
        rows = await sequence_messages(
            session, sequence, statuses, step_id=step_id, after=after[0] if after else None, limit=paging.fetch
        )
    page, next_cursor = paging.cut(rows, lambda row: (row.id,))
    link_next(request, response, next_cursor)
    return listed([StepMessage.of(row) for row in page], next_cursor, "Messages")


@router.get("/api/sequences/{sequence_id}/logs")
async def read_sequence_log(
    *,
    sequence_id: SequenceId,
    user: UserDep,
    context: ContextDep,
    paging: PagingDep,
    request: Request,
    response: Response,
    contact_id: Annotated[int | None, Query(ge=1, lt=BIGINT, description="Only this contact.")] = None,
) -> ListEnvelope[SequenceLogLine]:
    """What happened to the contacts of a sequence, newest first; kept also of one that was deleted."""
    before = paging.after(tuple[int])
    async with context.sessions.begin() as session:
        sequence = await get_sequence(session, user.id, sequence_id, with_deleted=True)
        if contact_id is not None:
            await get_contact(session, sequence, contact_id)
        rows = await list_log(
            session, sequence, contact_id=contact_id, before=before[0] if before else None, limit=paging.fetch
        )
    page, next_cursor = paging.cut(rows, lambda row: (row.id,))
    link_next(request, response, next_cursor)
    return listed([SequenceLogLine.model_validate(row) for row in page], next_cursor, "Log")


@router.post("/api/sequences/{sequence_id}/retry-failed")
async def retry_sequence(sequence_id: SequenceId, user: UserDep, context: ContextDep) -> Envelope[Retried]:
    """Send again what failed and can be retried."""
    return await _retry(context, user.id, sequence_id, None)


@router.post("/api/sequences/{sequence_id}/contacts/{contact_id}/retry-failed")
async def retry_contact(
    sequence_id: SequenceId, contact_id: ContactId, user: UserDep, context: ContextDep
) -> Envelope[Retried]:
    """Send again what failed for one contact and can be retried."""
    return await _retry(context, user.id, sequence_id, contact_id)


async def _retry(context: Context, user_id: UUID, sequence_id: UUID, contact_id: int | None) -> Envelope[Retried]:
    async with context.sessions.begin() as session:
        asked = await request_sequence_retry(
            session, user_id, sequence_id, contact_id=contact_id, requested_by=user_id, now=context.clock()
        )
    return await _signalled(context, SequenceInput(sequence_id, user_id), asked)


async def _signalled(context: Context, sequence: SequenceInput, asked: list[OpenRetry]) -> Envelope[Retried]:
    await signal_retries(context, sequence, asked)
    return success(Retried(retried=len(asked)), retry_message(len(asked)))


@router.post("/api/sequences/{sequence_id}/messages/{message_id}/retry")
async def retry_step_message(
    *,
    sequence_id: SequenceId,
    message_id: MessageId,
    user: UserDep,
    context: ContextDep,
    body: RetryOptions | None = None,
    confirm: Annotated[bool, Query(description="The same as `confirm` in the body.")] = False,
) -> Envelope[Retried]:
    """Send one message again; an `unknown` one only with `confirm`, because the person may get it twice."""
    async with context.sessions.begin() as session:
        asked = await request_step_message_retry(
            session,
            user.id,
            sequence_id,
            message_id,
            confirm=confirm or (body is not None and body.confirm),
            requested_by=user.id,
            now=context.clock(),
        )
    return await _signalled(context, SequenceInput(sequence_id, user.id), asked)
