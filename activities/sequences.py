"""Sequences: enrolling every lead they address, and telling the contacts' workflows what has changed."""

from datetime import datetime

from sqlalchemy import func, select
from temporalio import activity

from activities.resources import Resources
from siaran.contracts import EnrollingResult, SequenceInput
from siaran.enrolling import (
    OVERDUE_AT_A_TIME,
    OVERLAP,
    Cursor,
    cancel_queued,
    enroll_page,
    note_started,
    note_told,
    open_retries,
    unstarted,
    want_all,
    want_overdue,
    wanted,
)
from siaran.models import Enrollment, Sequence, SequenceStatus
from siaran.sequence_signals import request_step_retry, start_enrollments, tell_enrollments
from siaran.tenancy import get_owned, update_owned

AT_A_TIME = 250
"""Contacts whose workflows are started or told between two commits."""

MOST = 2_000
"""Contacts that one activity starts, and tells, at most: then leads that have changed meanwhile get their turn."""


class SequenceActivities:
    """The activity of `SequenceWorkflow`."""

    def __init__(self, resources: Resources) -> None:
        self._use = resources

    @activity.defn(name="enroll")
    async def enroll(self, order: SequenceInput) -> EnrollingResult:
        """Enroll who matches, start the workflows of who is new, tell those of whom something has changed for.

        Goes on, after any crash, with what the rows say is left. Nothing here depends on the order in which it is done.
        """
        now = self._use.clock()
        async with self._use.sessions() as session:
            row = await get_owned(session, Sequence, order.user_id, Sequence.id == order.sequence_id)
        is_active = row.status == SequenceStatus.ACTIVE and row.deleted_at is None
        enrolled = started = 0
        if is_active:
            enrolled = await self._enroll_leads(order, row.enrolled_until_at, now)
            started = await self._start(order)
        if row.deleted_at is not None:
            await self._wind_up(order, now)
        told = await self._tell(order, now, overdue=is_active)
        told += await self._retry(order) if row.deleted_at is None else 0
        async with self._use.sessions() as session:
            query = select(func.count()).where(Enrollment.user_id == order.user_id, Enrollment.sequence_id == order.sequence_id)
            contacts = await session.scalar(query) or 0
            left = len(await wanted(session, order, 1))
        return EnrollingResult(
            enrolled=enrolled,
            started=started,
            signalled=told,
            status="deleted" if row.deleted_at is not None else row.status.value,
            contacts=contacts,
            has_more=max(started, told) >= MOST,
            is_over=row.deleted_at is not None and not left,
        )

    async def _enroll_leads(self, order: SequenceInput, until_at: datetime | None, now: datetime) -> int:
        """Enroll all leads that match and have changed since the last time; a page a transaction."""
        since_at = None if until_at is None else until_at - OVERLAP
        cursor: Cursor | None = None
        enrolled = 0
        while True:
            async with self._use.sessions.begin() as session:
                page = await enroll_page(session, order, since_at, cursor, now)
            enrolled += page.enrolled
            activity.heartbeat(enrolled)
            if not page.is_open:
                return enrolled
            if page.cursor is None:
                break
            cursor = page.cursor
        async with self._use.sessions.begin() as session:
            # Whoever has asked meanwhile for all leads to be looked at again shall be heeded.
            unchanged = Sequence.enrolled_until_at.is_not_distinct_from(until_at)
            await session.execute(
                update_owned(Sequence, order.user_id)
                .where(Sequence.id == order.sequence_id, Sequence.status == SequenceStatus.ACTIVE, unchanged)
                .values(enrolled_until_at=now, updated_at=Sequence.updated_at)
            )
        return enrolled

    async def _start(self, order: SequenceInput) -> int:
        """Start contacts' workflows, a bounded number; those that Temporal did not take are left to the next sweep."""
        started = 0
        while started < MOST:
            async with self._use.sessions() as session:
                contacts = await unstarted(session, order, AT_A_TIME)
            reached = await start_enrollments(self._use.client, contacts)
            ids = [contact.enrollment_id for contact, is_reached in zip(contacts, reached, strict=True) if is_reached]
            async with self._use.sessions.begin() as session:
                await note_started(session, order.user_id, ids, self._use.clock())
            started += len(ids)
            activity.heartbeat(started)
            if len(ids) < AT_A_TIME:
                break
        return started

    async def _tell(self, order: SequenceInput, now: datetime, *, overdue: bool) -> int:
        """Signal contacts of whom somebody has noted that something changed, and those who have been forgotten."""
        if overdue:
            async with self._use.sessions.begin() as session:
                await want_overdue(session, order, now, OVERDUE_AT_A_TIME)
        told = 0
        while told < MOST:
            async with self._use.sessions() as session:
                contacts = await wanted(session, order, AT_A_TIME)
            reached = await tell_enrollments(self._use.client, (contact for contact, _ in contacts))
            done = [contact for contact, is_reached in zip(contacts, reached, strict=True) if is_reached]
            async with self._use.sessions.begin() as session:
                await note_told(session, order.user_id, done)
            told += len(done)
            activity.heartbeat(told)
            if len(done) < AT_A_TIME:
                break
        return told

    async def _retry(self, order: SequenceInput) -> int:
        """Tell contacts' workflows of failed steps that somebody wants sent again."""
        async with self._use.sessions() as session:
            retries = await open_retries(session, order, MOST)
        told = 0
        for enrollment, retry in retries:
            told += await request_step_retry(self._use.client, enrollment, retry)
            activity.heartbeat(told)
        return told

    async def _wind_up(self, order: SequenceInput, now: datetime) -> None:
        """Cancel what is queued of a deleted sequence, and note all of its contacts, so that their workflows end."""
        while True:
            async with self._use.sessions.begin() as session:
                cancelled = await cancel_queued(session, order, MOST)
            activity.heartbeat(cancelled)
            if not cancelled:
                break
        async with self._use.sessions.begin() as session:
            await want_all(session, order, now)
