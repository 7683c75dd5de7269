"""Sequences: create, list, show, edit, delete, start, pause, copy, and the summary."""

from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Sequence as Rows
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.auth import UserDep
from api.campaigns import link_next
from api.context import Context, ContextDep
from api.envelope import Envelope, ListEnvelope, success
from api.paging import Paging, PagingDep
from api.routes.campaigns import MessageTotals
from api.sequence_media import keep_step_media
from api.sequence_signals import signal_sequence
from api.sequences import NewSequence, SequenceEdit, SequenceId, SequenceView
from siaran import sequence_fields, sequence_reports, sequences
from siaran.models import Sequence, SequenceStatus
from siaran.sequence_fields import MAX_NAME, SequenceChanges
from siaran.sequence_reports import SequenceFilter, SequenceNumbers
from siaran.sequence_steps import media_of

router = APIRouter(tags=["sequences"])


class SequenceTotals(BaseModel):
    """How many sequences have which status; the three add up to the total."""

    total: int
    active: int
    paused: int
    draft: int

    @classmethod
    def of(cls, statuses: dict[SequenceStatus, int]) -> "SequenceTotals":
        """The totals of sequences counted by status."""
        return cls(total=sum(statuses.values()), **{status.value: statuses.get(status, 0) for status in SequenceStatus})


class ContactTotals(BaseModel):
    """Contacts of all these sequences; who is in two of them counts twice."""

    total: int
    active: int
    paused: int
    completed: int
    left: int
    average_per_sequence: float


class SequenceList(ListEnvelope[SequenceView]):
    """A page of sequences and the totals of all that the filters let through."""

    totals: SequenceTotals


class SequenceSummary(BaseModel):
    """All sequences, their contacts, and what became of their messages."""

    sequences: SequenceTotals
    contacts: ContactTotals
    messages: MessageTotals
    recent_sequences: list[SequenceView] = Field(description="The sequences, newest first, one page of them.")
    next_cursor: str | None = Field(description="For the next page of `recent_sequences`.")


class DeletedSequence(BaseModel):
    """What was deleted."""

    id: UUID


class SequenceCopyOptions(BaseModel):
    """How the copy differs."""

    name: str | None = Field(None, max_length=MAX_NAME, description="Another name.")


def read_filter(
    status: Annotated[SequenceStatus | None, Query(description="Only sequences with this status.")] = None,
    search: Annotated[str, Query(max_length=200, description="Part of the name or of the niche.")] = "",
) -> SequenceFilter:
    """The query parameters of lists of sequences."""
    return SequenceFilter(status=status, text=search)


FilterDep = Annotated[SequenceFilter, Depends(read_filter)]


async def show_all(
    session: AsyncSession, user_id: UUID, rows: Rows[Sequence], numbers: Mapping[UUID, SequenceNumbers] | None = None
) -> list[SequenceView]:
    """A user's sequences with their steps and numbers, which are counted if they are not given."""
    ids = [sequence.id for sequence in rows]
    steps = await sequences.steps_of(session, user_id, ids)
    if numbers is None:
        numbers = await sequence_reports.numbers_of(session, user_id, ids)
    return [SequenceView.of(sequence, steps[sequence.id], numbers[sequence.id]) for sequence in rows]


async def show(session: AsyncSession, sequence: Sequence) -> SequenceView:
    """One sequence with its steps and numbers."""
    return (await show_all(session, sequence.user_id, [sequence]))[0]


async def show_page(
    session: AsyncSession,
    user_id: UUID,
    wanted: SequenceFilter,
    paging: Paging,
    numbers: Mapping[UUID, SequenceNumbers] | None = None,
) -> tuple[list[SequenceView], str | None]:
    """One page of a user's sequences and the cursor of the next."""
    rows = await sequence_reports.list_sequences(
        session, user_id, wanted, after=paging.after(tuple[datetime, UUID]), limit=paging.fetch
    )
    page, next_cursor = paging.cut(rows, lambda sequence: (sequence.created_at, sequence.id))
    return await show_all(session, user_id, page, numbers), next_cursor


@router.get("/api/sequences")
async def list_sequences(
    *, user: UserDep, context: ContextDep, wanted: FilterDep, paging: PagingDep, request: Request, response: Response
) -> SequenceList:
    """One's own sequences, newest first."""
    async with context.sessions.begin() as session:
        page, next_cursor = await show_page(session, user.id, wanted, paging)
        statuses = await sequence_reports.count_sequences(session, user.id, wanted)
    link_next(request, response, next_cursor)
    return SequenceList(message="Sequences", results=page, next_cursor=next_cursor, totals=SequenceTotals.of(statuses))


@router.post("/api/sequences", status_code=201)
async def create_sequence(body: NewSequence, user: UserDep, context: ContextDep) -> Envelope[SequenceView]:
    """A sequence with its steps. An active one enrolls every lead that matches, within a minute; a draft does nothing yet."""
    now = context.clock()

    async def save(session: AsyncSession, wanted: SequenceChanges) -> Sequence:
        return await sequence_fields.create_sequence(session, user.id, wanted, now=now)

    wanted = await keep_step_media(context, user.id, body.changes(), save)
    async with context.sessions.begin() as session:
        sequence = await save(session, wanted)
        view = await show(session, sequence)
    await signal_sequence(context, sequence)
    return success(view, "Sequence created")


@router.get("/api/sequences/summary")
async def read_sequence_summary(
    user: UserDep, context: ContextDep, wanted: FilterDep, paging: PagingDep
) -> Envelope[SequenceSummary]:
    """All one's sequences with their contacts and messages, added up."""
    async with context.sessions.begin() as session:
        statuses = await sequence_reports.count_sequences(session, user.id, wanted)
        numbers = await sequence_reports.all_numbers(session, user.id, wanted)
        page, next_cursor = await show_page(session, user.id, wanted, paging, numbers)
    totals, sums = SequenceTotals.of(statuses), sequence_reports.add_up(numbers.values())
    contacts = sums.contacts
    summary = SequenceSummary(
        sequences=totals,
        contacts=ContactTotals(
            total=contacts.total,
            active=contacts.active,
            paused=contacts.paused,
            completed=contacts.completed,
            left=contacts.left,
            average_per_sequence=round(contacts.total / totals.total, 1) if totals.total else 0,
        ),
        messages=MessageTotals.of(sums.messages),
        recent_sequences=page,
        next_cursor=next_cursor,
    )
    return success(summary, "Sequence summary")


@router.get("/api/sequences/{sequence_id}")
async def read_sequence(sequence_id: SequenceId, user: UserDep, context: ContextDep) -> Envelope[SequenceView]:
    """One of one's own sequences."""
    async with context.sessions.begin() as session:
        view = await show(session, await sequences.get_sequence(session, user.id, sequence_id))
    return success(view, "Sequence")


@router.put("/api/sequences/{sequence_id}")
async def edit_sequence(
    sequence_id: SequenceId, body: SequenceEdit, user: UserDep, context: ContextDep
) -> Envelope[SequenceView]:
    """Change what the request names, for everyone who has not passed it; steps of the same day stay the same steps."""
    now = context.clock()
    async with context.sessions.begin() as session:
        present = await sequences.get_sequence(session, user.id, sequence_id)
        steps = (await sequences.steps_of(session, user.id, [sequence_id]))[sequence_id]
    wanted = body.changes(present.status, media_of(steps))

    async def save(session: AsyncSession, wanted: SequenceChanges) -> Sequence:
        return await sequence_fields.edit_sequence(session, user.id, sequence_id, wanted, now=now)

    wanted = await keep_step_media(context, user.id, wanted, save, sequence_id=sequence_id)
    return await _change(context, lambda session: save(session, wanted), "Sequence changed")


async def _change(
    context: Context, change: Callable[[AsyncSession], Awaitable[Sequence]], message: str
) -> Envelope[SequenceView]:
    """Carry out one change in a transaction of its own, then tell the sequence's workflow, and the lanes if it goes on."""
    async with context.sessions.begin() as session:
        sequence = await change(session)
        view = await show(session, sequence)
        is_active = sequence.status == SequenceStatus.ACTIVE
        devices = await sequences.devices_with_pending(session, sequence) if is_active else []
    await signal_sequence(context, sequence, devices)
    return success(view, message)


@router.delete("/api/sequences/{sequence_id}")
async def delete_sequence(sequence_id: SequenceId, user: UserDep, context: ContextDep) -> Envelope[DeletedSequence]:
    """Send nothing more of it and hide it; what was sent, and the log, stay."""
    async with context.sessions.begin() as session:
        sequence = await sequences.delete_sequence(session, user.id, sequence_id, context.clock())
    await signal_sequence(context, sequence)
    return success(DeletedSequence(id=sequence_id), "Sequence deleted")


@router.post("/api/sequences/{sequence_id}/start")
async def start_sequence(sequence_id: SequenceId, user: UserDep, context: ContextDep) -> Envelope[SequenceView]:
    """Enroll every lead that matches and move everyone on; after a pause, each from where they were."""
    return await _change(
        context,
        lambda session: sequences.start_sequence(session, user.id, sequence_id, context.clock()),
        "Sequence started",
    )


@router.post("/api/sequences/{sequence_id}/resume")
async def resume_sequence(sequence_id: SequenceId, user: UserDep, context: ContextDep) -> Envelope[SequenceView]:
    """The same as start."""
    return await _change(
        context,
        lambda session: sequences.start_sequence(session, user.id, sequence_id, context.clock()),
        "Sequence resumed",
    )


@router.post("/api/sequences/{sequence_id}/pause")
async def pause_sequence(sequence_id: SequenceId, user: UserDep, context: ContextDep) -> Envelope[SequenceView]:
    """Stop sending from the next message on; everyone keeps their place, and gets no burst when it goes on."""
    return await _change(
        context,
        lambda session: sequences.pause_sequence(session, user.id, sequence_id, context.clock()),
        "Sequence paused",
    )


@router.post("/api/sequences/{sequence_id}/copy", status_code=201)
async def copy_sequence(
    sequence_id: SequenceId, user: UserDep, context: ContextDep, body: SequenceCopyOptions | None = None
) -> Envelope[SequenceView]:
    """A draft with the same steps and audience, without contacts."""
    name = body.name if body else None
    async with context.sessions.begin() as session:
        copy = await sequence_fields.copy_sequence(session, user.id, sequence_id, name=name, now=context.clock())
        view = await show(session, copy)
    return success(view, "Sequence copied")
