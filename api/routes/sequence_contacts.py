"""The contacts of a sequence: enrolling by phone, their progress, and steering one of them."""

from collections.abc import Awaitable, Callable
from collections.abc import Sequence as Rows
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.auth import AuthenticatedUser, UserDep
from api.campaigns import link_next
from api.context import Context, ContextDep
from api.envelope import Envelope, ListEnvelope, listed, success
from api.paging import BIGINT, PagingDep
from api.sequence_signals import signal_contact, signal_new_leads, signal_sequence
from api.sequences import SequenceId
from siaran import manual_enrollments, sequence_contacts
from siaran.lead_fields import NAME_LENGTH
from siaran.manual_enrollments import MOST, NewContact
from siaran.models import Enrollment, EnrollmentStatus, Sequence, SequenceStep
from siaran.sequence_reports import LastMessage, last_messages, list_contacts
from siaran.sequences import get_sequence, steps_of

router = APIRouter(tags=["sequences"])

ContactId = Annotated[int, Path(ge=1, lt=BIGINT, description="Id of the contact in the sequence.")]


class ContactView(BaseModel):
    """A contact's place in a sequence."""

    id: int
    lead_id: int | None
    contact_phone: str
    contact_name: str
    status: EnrollmentStatus
    left_because: str | None = Field(description="Why a contact left.")
    current_step: int = Field(description="How many steps have been queued or skipped.")
    current_day: int = Field(description="The last day that was queued or skipped.")
    total_steps: int
    total_days: int
    cycle: int = Field(description="How often the contact has started over.")
    progress: str = Field(description="Where the contact stands.", examples=["day 3 of 5"])
    enrolled_at: datetime
    added_at: datetime = Field(description="The same as `enrolled_at`.")
    last_message_at: datetime | None
    last_outcome: str | None = Field(description="What became of the contact's last message.", examples=["delivered"])
    last_error: str | None = Field(description="Why the last message was not sent.")
    next_send_at: datetime | None
    next_message: str | None = Field(description="The same on your own clock.", examples=["Tue 09:00"])
    paused_at: datetime | None
    completed_at: datetime | None

    @classmethod
    def of(cls, contact: Enrollment, steps: Rows[SequenceStep], zone: str, last: LastMessage | None) -> "ContactView":
        """A contact's row, with what became of the last message."""
        days = max((step.day for step in steps), default=0)
        next_at = contact.next_send_at if contact.status == EnrollmentStatus.ACTIVE else None
        columns = {name: getattr(contact, name) for name in cls.model_fields if hasattr(contact, name)}
        found = {
            "total_steps": len(steps),
            "total_days": days,
            "progress": f"day {contact.current_day} of {days}",
            "added_at": contact.enrolled_at,
            "last_outcome": last.status if last else None,
            "last_error": last.error if last else None,
            "next_send_at": next_at,
            "next_message": f"{next_at.astimezone(ZoneInfo(zone)):%a %H:%M}" if next_at else None,
        }
        return cls.model_validate({**columns, **found})


class ContactBody(BaseModel):
    """Somebody to enroll."""

    phone: str = Field(max_length=100, description="A phone in any form.", examples=["+60123456789"])
    name: str = Field("", max_length=NAME_LENGTH, description="The name of who is no lead yet.")


def _phone_alone(value: Any) -> Any:
    return {"phone": value} if isinstance(value, str) else {"phone": str(value)} if isinstance(value, int) else value


class NewContacts(BaseModel):
    """Whom to enroll."""

    contacts: list[Annotated[ContactBody, BeforeValidator(_phone_alone, json_schema_input_type=str | ContactBody)]] = Field(
        min_length=1,
        max_length=MOST,
        description="Phones in any form, or objects of a phone and a name.",
        examples=[["+60123456789", "012-345 6780"]],
    )


class RefusedContact(BaseModel):
    """A contact that was not enrolled."""

    model_config = ConfigDict(from_attributes=True)

    position: int = Field(description="Where it stands in the request, from 0.")
    contact: str
    reason: str


class EnrolledView(BaseModel):
    """What became of the contacts of a request."""

    added: int
    already_enrolled: int = Field(description="Those who are in the sequence already, and repetitions in the request.")
    invalid: list[RefusedContact]


@router.post("/api/sequences/{sequence_id}/contacts", status_code=201)
async def enroll_contacts(
    sequence_id: SequenceId, body: NewContacts, user: UserDep, context: ContextDep
) -> Envelope[EnrolledView]:
    """Enroll people by phone, each person once; who is no lead yet becomes one. They begin when the sequence is active."""
    contacts = [NewContact(contact.phone, contact.name) for contact in body.contacts]
    async with context.sessions.begin() as session:
        done = await manual_enrollments.enroll_contacts(
            session, user.id, sequence_id, contacts, country=user.country, now=context.clock()
        )
        sequence = await get_sequence(session, user.id, sequence_id)
    if done.added:
        await signal_sequence(context, sequence)
    if done.new_leads:
        await signal_new_leads(context, user.id)
    refused = [RefusedContact.model_validate(refusal) for refusal in done.invalid]
    view = EnrolledView(added=done.added, already_enrolled=done.already_enrolled, invalid=refused)
    return success(view, f"{done.added} contacts enrolled")


@router.get("/api/sequences/{sequence_id}/contacts")
async def read_contacts(
    *,
    sequence_id: SequenceId,
    user: UserDep,
    context: ContextDep,
    paging: PagingDep,
    request: Request,
    response: Response,
    status: Annotated[
        EnrollmentStatus | None, Query(description="Only contacts with this status; without it, all but those removed.")
    ] = None,
    search: Annotated[str, Query(max_length=200, description="Part of the name or of the phone.")] = "",
) -> ListEnvelope[ContactView]:
    """A sequence's contacts in the order in which they were enrolled, with their progress."""
    after = paging.after(tuple[int])
    async with context.sessions.begin() as session:
        sequence = await get_sequence(session, user.id, sequence_id)
        rows = await list_contacts(
            session, sequence, status=status, text=search, after=after[0] if after else None, limit=paging.fetch
        )
        page, next_cursor = paging.cut(rows, lambda contact: (contact.id,))
        steps = (await steps_of(session, user.id, [sequence_id]))[sequence_id]
        last = await last_messages(session, user.id, [contact.id for contact in page])
    link_next(request, response, next_cursor)
    views = [ContactView.of(contact, steps, user.timezone, last.get(contact.id)) for contact in page]
    return listed(views, next_cursor, "Contacts")


@router.get("/api/sequences/{sequence_id}/contacts/{contact_id}")
async def read_contact(
    sequence_id: SequenceId, contact_id: ContactId, user: UserDep, context: ContextDep
) -> Envelope[ContactView]:
    """One contact's progress."""
    async with context.sessions.begin() as session:
        sequence = await get_sequence(session, user.id, sequence_id)
        view = await _show(session, await sequence_contacts.get_contact(session, sequence, contact_id), user)
    return success(view, "Contact")


async def _show(session: AsyncSession, contact: Enrollment, user: AuthenticatedUser) -> ContactView:
    steps = (await steps_of(session, user.id, [contact.sequence_id]))[contact.sequence_id]
    last = await last_messages(session, user.id, [contact.id])
    return ContactView.of(contact, steps, user.timezone, last.get(contact.id))


Change = Callable[[AsyncSession, Sequence, int, datetime], Awaitable[Enrollment]]


async def _steer(
    context: Context, user: AuthenticatedUser, place: tuple[UUID, int], change: Change, message: str
) -> Envelope[ContactView]:
    """Carry out one change of a sequence's contact in a transaction of its own, then tell the contact's workflow."""
    sequence_id, contact_id = place
    async with context.sessions.begin() as session:
        sequence = await get_sequence(session, user.id, sequence_id)
        contact = await change(session, sequence, contact_id, context.clock())
        await session.flush()
        view = await _show(session, contact, user)
    await signal_contact(context, contact)
    return success(view, message)


@router.delete("/api/sequences/{sequence_id}/contacts/{contact_id}")
async def remove_contact(
    sequence_id: SequenceId, contact_id: ContactId, user: UserDep, context: ContextDep
) -> Envelope[ContactView]:
    """Take a contact out: nothing more is sent to them, and they are not enrolled again by themselves."""
    return await _steer(context, user, (sequence_id, contact_id), sequence_contacts.remove_contact, "Contact removed")


@router.post("/api/sequences/{sequence_id}/contacts/{contact_id}/pause")
async def pause_contact(
    sequence_id: SequenceId, contact_id: ContactId, user: UserDep, context: ContextDep
) -> Envelope[ContactView]:
    """Send this contact nothing more for now; they keep their place."""
    return await _steer(context, user, (sequence_id, contact_id), sequence_contacts.pause_contact, "Contact paused")


@router.post("/api/sequences/{sequence_id}/contacts/{contact_id}/resume")
async def resume_contact(
    sequence_id: SequenceId, contact_id: ContactId, user: UserDep, context: ContextDep
) -> Envelope[ContactView]:
    """Go on where the contact was paused; the later steps are put off by whole days, so nobody gets a burst."""
    return await _steer(context, user, (sequence_id, contact_id), sequence_contacts.resume_contact, "Contact resumed")


@router.post("/api/sequences/{sequence_id}/contacts/{contact_id}/skip")
async def skip_step(
    sequence_id: SequenceId, contact_id: ContactId, user: UserDep, context: ContextDep
) -> Envelope[ContactView]:
    """Pass over the contact's next step without sending it."""
    return await _steer(context, user, (sequence_id, contact_id), sequence_contacts.skip_step, "Step skipped")


@router.post("/api/sequences/{sequence_id}/contacts/{contact_id}/restart")
async def restart_contact(
    sequence_id: SequenceId, contact_id: ContactId, user: UserDep, context: ContextDep
) -> Envelope[ContactView]:
    """Begin with day 1 again, as if the contact were enrolled now."""
    return await _steer(context, user, (sequence_id, contact_id), sequence_contacts.restart_contact, "Contact restarted")
