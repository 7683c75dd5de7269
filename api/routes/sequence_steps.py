"""The steps of a sequence, one by one: what recipients see, and a test send."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.auth import SenderDep, UserDep
from api.context import ContextDep
from api.envelope import Envelope, success
from api.routes.messages import MessageView, TestSend
from api.routes.previews import LeadId, Limit, PreviewView
from api.sending import IdempotencyKey, queue_at_once
from api.sequence_steps import DayNumber
from api.sequences import SequenceId
from siaran.one_off import OneOff, wait_for_end
from siaran.previews import preview_text
from siaran.sequence_steps import text_of
from siaran.sequences import get_sequence, get_step

router = APIRouter(tags=["sequences"])


@router.get("/api/sequences/{sequence_id}/steps/{day}/preview")
async def preview_step(
    *,
    sequence_id: SequenceId,
    day: DayNumber,
    user: UserDep,
    context: ContextDep,
    lead_id: Annotated[LeadId | None, Query()] = None,
    limit: Annotated[Limit, Query()] = 3,
) -> Envelope[PreviewView]:
    """What recipients see of one day's message: the first leads that match, or one lead."""
    async with context.sessions.begin() as session:
        sequence = await get_sequence(session, user.id, sequence_id)
        step = await get_step(session, sequence, day)
        shown = await preview_text(
            session,
            user.id,
            text_of(step),
            niche=sequence.niche,
            target_status=sequence.target_status,
            lead_id=lead_id,
            limit=limit,
        )
    return success(PreviewView.of(step.message_type, step.media_url, shown), "Preview")


@router.post("/api/sequences/{sequence_id}/steps/{day}/test", responses={202: {"model": Envelope[MessageView]}})
async def send_step_test(
    *,
    sequence_id: SequenceId,
    day: DayNumber,
    body: TestSend,
    user: SenderDep,
    context: ContextDep,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Envelope[MessageView]:
    """Send one day's message to one number, ahead of the rest; 202 when its outcome is not known in time.

    The fields are those of the lead with that number; who is no lead is called as you are. Nobody is enrolled by it.
    """
    async with context.sessions.begin() as session:
        sequence = await get_sequence(session, user.id, sequence_id)
        step = await get_step(session, sequence, day)
        wanted = OneOff(
            phone=body.phone,
            text=text_of(step),
            message_type=step.message_type,
            media_url=step.media_url,
            device_id=body.device_id,
            is_template=True,
            key=idempotency_key,
        )
    message = await queue_at_once(context, user, wanted)
    found = await wait_for_end(context.sessions, user.id, message.id, seconds=body.wait_seconds)
    if not found.has_ended:
        response.status_code = 202
        return success(MessageView.of(found), "The test message is queued")
    return success(MessageView.of(found), f"The test message is {found.message.status}")
