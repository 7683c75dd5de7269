"""Sending one message at once: checked, its file kept, queued ahead of the rest, and waited for."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel, Field

from api.auth import AuthenticatedUser, SenderDep
from api.context import Context, ContextDep
from api.envelope import Envelope, success
from api.send_bodies import Body, Order, Upload, read_body
from siaran.errors import Invalid
from siaran.host_reads import HostReader
from siaran.lanes import wake_lanes
from siaran.media import reference_to, referenced_id
from siaran.media_fetch import keep_file, keep_from_url
from siaran.message_contents import describe_content
from siaran.models import BroadcastMessage
from siaran.number_checks import NumberChecks
from siaran.one_off import MAX_KEY, OPEN, MessageNow, OneOff, check_one_off, queue_one_off, wait_for_end
from siaran.public_addresses import is_web_url
from siaran.recipients import has_written_with

IdempotencyKey = Annotated[
    str | None,
    Header(max_length=MAX_KEY, description="Your own name for this message: asked for again under it, nothing is sent again."),
]

COMING = "upload"
"""Stands for a file that is checked, but not stored yet."""


class SentView(BaseModel):
    """A message that was to be sent at once, and what became of it."""

    message_id: int = Field(description="Siaran's id of it, for `GET /api/messages/{id}`.")
    status: str = Field(
        description="`queued` while it is not known; else `sent`, `delivered`, `read`, `failed`, `unknown` (nobody can tell), "
        "`suppressed` (the contact opted out meanwhile) or `cancelled`.",
        examples=["sent"],
    )
    device_id: UUID
    phone: str
    message_type: str
    text: str
    media_url: str | None
    whatsapp_id: str | None = Field(description="WhatsApp's own id of it, once it was sent.")
    error_code: str | None = Field(description="Why it was not sent.")
    error_message: str | None
    sent_at: datetime | None

    @classmethod
    def of(cls, now: MessageNow) -> "SentView":
        """A message with its last attempt."""
        row = now.message
        return cls(
            message_id=row.id,
            status="queued" if row.status in OPEN else row.status,
            device_id=row.device_id,
            phone=row.recipient_phone,
            message_type=row.message_type,
            text=describe_content(row.message_type, row.content or ""),
            media_url=row.media_url,
            whatsapp_id=now.attempt.whatsapp_id if now.attempt else None,
            error_code=row.error_code,
            error_message=row.error_message,
            sent_at=row.sent_at,
        )


@dataclass(slots=True)
class Sending:
    """One request to send something at once."""

    request: Request
    user: AuthenticatedUser
    context: Context
    response: Response
    key: str | None
    upload: Upload | None = None

    async def read(self, model: type[Body], file: str | None = None) -> Body:
        """The body of the request, JSON or a form; a file in the form's field `file` goes with the message."""
        body, self.upload = await read_body(self.request, model, file)
        return body

    async def send(self, order: Order, wanted: OneOff) -> Envelope[SentView]:
        """Send what is wanted, all but its recipient, and tell what became of it."""
        wanted = replace(wanted, phone=order.phone, device_id=order.device_id, only_device=True, key=self.key)
        if wanted.media_url is not None and referenced_id(wanted.media_url) is None and not is_web_url(wanted.media_url):
            reason = "must begin with https:// or http:// and name a host, or be the /api/media/… of a file of yours"
            raise Invalid.field(wanted.media_field, reason)
        message = await queue_at_once(self.context, self.user, wanted, upload=self.upload)
        found = await wait_for_end(self.context.sessions, self.user.id, message.id, seconds=order.wait_seconds)
        view = SentView.of(found)
        if not found.has_ended:
            self.response.status_code = 202
        return success(view, f"The message is {view.status}")


async def _begin(
    request: Request, user: SenderDep, context: ContextDep, response: Response, idempotency_key: IdempotencyKey = None
) -> Sending:
    return Sending(request, user, context, response, idempotency_key)


SendingDep = Annotated[Sending, Depends(_begin)]


async def queue_at_once(
    context: Context, user: AuthenticatedUser, wanted: OneOff, *, upload: Upload | None = None
) -> BroadcastMessage:
    """Queue a message and wake its lane; what can be refused is refused before its file is fetched or stored.

    Raises what `siaran.one_off.queue_one_off` does, and `Invalid` for a phone that is known to have no WhatsApp account.
    """
    draft = wanted if upload is None else replace(wanted, media_url=COMING)
    async with context.sessions() as session:
        route = await check_one_off(session, user.id, draft, country=user.country, now=context.clock())
        asks = (
            context.settings.account_validation
            and route is not None
            and not await has_written_with(session, user.id, route.device.id, route.phone)
        )
    if asks and route is not None and await number_checks(context).is_known_absent(user.id, route.device.id, route.phone):
        raise Invalid.field("phone", "has no WhatsApp account")
    wanted, kept_url = await _keep(context, user.id, wanted, upload)
    async with context.sessions.begin() as session:
        message = await queue_one_off(session, user.id, wanted, country=user.country, now=context.clock(), kept_url=kept_url)
    await wake_lanes(context.sessions, context.temporal, context.redis, [message.device_id])
    return message


def number_checks(context: Context) -> NumberChecks:
    """What asks devices about numbers."""
    return NumberChecks(HostReader(context.sessions, context.redis, context.temporal), context.redis)


async def _keep(context: Context, user_id: UUID, wanted: OneOff, upload: Upload | None) -> tuple[OneOff, str | None]:
    """The message with the reference of an upload, and the reference of a file that was fetched from its URL."""
    if upload is not None:
        media = await keep_file(
            context.sessions,
            user_id,
            upload.content,
            file_name=upload.file_name,
            declared=upload.declared,
            field=wanted.media_field,
            clock=context.clock,
        )
        return replace(wanted, media_url=reference_to(media.id)), None
    if wanted.media_url is None or not is_web_url(wanted.media_url):
        return wanted, None
    media = await keep_from_url(
        context.sessions,
        user_id,
        wanted.media_url,
        field=wanted.media_field,
        allow_private=context.settings.allow_private_targets,
        clock=context.clock,
    )
    return wanted, reference_to(media.id)
