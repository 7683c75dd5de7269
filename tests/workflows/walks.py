"""Sequences walked through by contacts whose days pass in moments: what tests enroll, skip to, and compare."""

import asyncio
import time as stopwatch
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, text
from temporalio.testing import ActivityEnvironment

from activities.sweeps import SweepActivities
from siaran.attempt_keys import attempt_key, secret_of
from siaran.contracts import SequenceInput, device_workflow_id, enrollment_workflow_id, sequence_workflow_id
from siaran.models import BroadcastMessage, Enrollment, EnrollmentStatus, Lead, MessageStatus, Sequence, SequenceStep
from siaran.schedule import zone_of
from siaran.sequence_retries import request_sequence_retry
from siaran.sequence_signals import nudge_sequence
from siaran.sequences import delete_sequence, pause_sequence, start_sequence
from tests.factories import add_lead
from tests.sequence_rows import add_sequence
from tests.workflows.house import House
from tests.workflows.skipped_time import Days

SETTLE_SECONDS = 20.0
"""When nothing moves for so long, something was forgotten, and the sweep is run as its schedule would."""

_BUSY = text("""
    SELECT (SELECT count(*) FROM sequence_contacts e JOIN sequences q ON q.id = e.sequence_id AND q.status = 'active'
            WHERE e.status = 'active' AND (e.next_send_at <= :now OR e.workflow_started_at IS NULL OR e.wanted_at IS NOT NULL))
        + (SELECT count(*) FROM broadcast_messages m LEFT JOIN sequences q ON q.id = m.sequence_id
            WHERE m.status = 'claimed' OR (m.status = 'pending' AND m.scheduled_at <= :now AND q.status = 'active'))
""")

_NEXT = text("""
    SELECT min(e.next_send_at) FROM sequence_contacts e JOIN sequences q ON q.id = e.sequence_id AND q.status = 'active'
    WHERE e.status = 'active'
""")


class Walks:
    """A house with a sequence, and the days that pass for it."""

    def __init__(self, house: House, days: Days) -> None:
        self.house = house
        self.days = days
        self.use = house.resources
        self.patience = SETTLE_SECONDS
        self._environment = ActivityEnvironment()

    @property
    def now(self) -> datetime:
        """What the clock of everyone says."""
        return self.days.clock()

    async def sequence(self, steps: dict[int, Any], **columns: Any) -> Sequence:
        """A sequence whose workflow runs."""
        async with self.use.sessions.begin() as session:
            sequence = await add_sequence(session, self.house.ledger.user, steps, resumed_at=self.now, **columns)
        await self.nudge(sequence)
        return sequence

    async def nudge(self, sequence: Sequence) -> None:
        """Tell the sequence's workflow that something has changed."""
        assert await nudge_sequence(self.use.client, SequenceInput(sequence.id, sequence.user_id))

    async def enroll(self, sequence: Sequence, leads: int, niche: str = "") -> list[Lead]:
        """New leads who match; they are enrolled when this returns."""
        async with self.use.sessions.begin() as session:
            added = [await add_lead(session, self.house.ledger.user, niche=niche, updated_at=self.now) for _ in range(leads)]
        await self.nudge(sequence)
        await self._until_enrolled(sequence, [lead.id for lead in added])
        return added

    async def _until_enrolled(self, sequence: Sequence, lead_ids: list[int]) -> None:
        query = select(Enrollment.lead_id).where(Enrollment.sequence_id == sequence.id, Enrollment.lead_id.in_(lead_ids))
        async with asyncio.timeout(30):
            while True:
                async with self.use.sessions() as session:
                    if len((await session.scalars(query)).all()) == len(lead_ids):
                        return
                await asyncio.sleep(0.05)

    async def pause(self, sequence: Sequence) -> None:
        """As its owner does."""
        async with self.use.sessions.begin() as session:
            await pause_sequence(session, sequence.user_id, sequence.id, self.now)
        await self.nudge(sequence)

    async def resume(self, sequence: Sequence) -> None:
        """As its owner does."""
        async with self.use.sessions.begin() as session:
            await start_sequence(session, sequence.user_id, sequence.id, self.now)
        await self.nudge(sequence)

    async def delete(self, sequence: Sequence) -> None:
        """As its owner does."""
        async with self.use.sessions.begin() as session:
            await delete_sequence(session, sequence.user_id, sequence.id, self.now)
        await self.nudge(sequence)

    async def retry(self, sequence: Sequence) -> int:
        """Ask for every failed step once more; returns how many."""
        user = sequence.user_id
        async with self.use.sessions.begin() as session:
            asked = await request_sequence_retry(session, user, sequence.id, requested_by=user, now=self.now)
        await self.nudge(sequence)
        return len(asked)

    async def contact(self, lead: Lead) -> Enrollment:
        """A lead's place."""
        async with self.use.sessions() as session:
            return (await session.scalars(select(Enrollment).where(Enrollment.lead_id == lead.id))).one()

    async def settle(self) -> None:
        """Return once everything is done that is due by now; what was forgotten is found by the sweep."""
        quiet = 0
        began = stopwatch.monotonic()
        while quiet < 3:
            async with self.use.sessions() as session:
                busy: int = (await session.execute(_BUSY, {"now": self.now})).scalar_one()
            quiet = 0 if busy else quiet + 1
            if stopwatch.monotonic() - began > self.patience:
                began = stopwatch.monotonic()
                await self.skip(timedelta(seconds=61))
                await self._environment.run(SweepActivities(self.use).sweep)
            await asyncio.sleep(0.05)

    async def skip(self, by: timedelta) -> None:
        """Let time pass for everyone."""
        user = self.house.ledger.user.id
        async with self.use.sessions() as session:
            contacts = await session.execute(
                select(Enrollment.sequence_id, Enrollment.lead_id).where(Enrollment.user_id == user)
            )
            ids = [enrollment_workflow_id(row.sequence_id, row.lead_id or 0) for row in contacts]
            ids += [sequence_workflow_id(key) for key in await session.scalars(select(Sequence.id))]
        ids += [device_workflow_id(device.id) for device in self.house.devices]
        await self.days.skip(by, ids)

    async def until(self, at: datetime | None = None) -> None:
        """Let time pass from one due step to the next, until an instant, or until nothing is left to wait for."""
        while True:
            await self.settle()
            async with self.use.sessions() as session:
                following: datetime | None = (await session.execute(_NEXT)).scalar_one()
            if following is None or (at is not None and following > at):
                break
            await self.skip(max(following - self.now, timedelta(0)) + timedelta(milliseconds=20))
        if at is not None and at > self.now:
            await self.skip(at - self.now)

    async def sent(self, sequence: Sequence) -> dict[str, list[tuple[int, datetime]]]:
        """What the network received of a sequence: day of the step and local time, in their order, by phone.

        Raises `AssertionError` for a transmission that the ledger does not know, or that went to somebody else.
        """
        known = await self._keys(sequence)
        found: dict[str, list[tuple[int, datetime]]] = {}
        zone = zone_of(self.house.ledger.user.timezone)
        async for one in self.house.network.transmissions():
            phone, day = known[one.key]
            assert phone == one.to
            found.setdefault(phone, []).append((day, one.at.astimezone(zone).replace(tzinfo=None)))
        return found

    async def _keys(self, sequence: Sequence) -> dict[str, tuple[str, int]]:
        """Phone and day of every attempt that the ledger has, by its key."""
        secret = secret_of(self.use.settings)
        query = (
            select(BroadcastMessage.id, BroadcastMessage.attempt, BroadcastMessage.recipient_phone, SequenceStep.day)
            .join(SequenceStep, SequenceStep.id == BroadcastMessage.step_id)
            .where(BroadcastMessage.sequence_id == sequence.id)
        )
        async with self.use.sessions() as session:
            rows = (await session.execute(query)).all()
        return {
            attempt_key(secret, row.id, attempt).hex(): (row.recipient_phone, row.day)
            for row in rows
            for attempt in range(1, row.attempt + 1)
        }

    async def unknown(self, sequence: Sequence) -> set[tuple[str, int]]:
        """Phone and day of the messages of which nobody can tell whether they went out."""
        query = (
            select(BroadcastMessage.recipient_phone, SequenceStep.day)
            .join(SequenceStep, SequenceStep.id == BroadcastMessage.step_id)
            .where(BroadcastMessage.sequence_id == sequence.id, BroadcastMessage.status == MessageStatus.UNKNOWN)
        )
        async with self.use.sessions() as session:
            return {(row.recipient_phone, row.day) for row in await session.execute(query)}

    async def statuses(self, sequence: Sequence) -> Counter[MessageStatus]:
        """How many messages of a sequence are in which state."""
        query = select(BroadcastMessage.status).where(BroadcastMessage.sequence_id == sequence.id)
        async with self.use.sessions() as session:
            return Counter(await session.scalars(query))

    async def walks(self, sequence: Sequence) -> Counter[EnrollmentStatus]:
        """How many contacts of a sequence stand how."""
        query = select(Enrollment.status).where(Enrollment.sequence_id == sequence.id)
        async with self.use.sessions() as session:
            return Counter(await session.scalars(query))
