"""Moving many contacts of sequences on in one transaction: their rows are read in sets, each is planned, due steps are queued.

Locks are taken in one order: users, sequences, contacts by id, messages. A repeat queues nothing twice: a step has one row.
"""

from collections import defaultdict
from collections.abc import Mapping
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.contracts import StepOrder, StepPlan
from siaran.enrollment_plans import Decision, Standing, plan_contact
from siaran.models import DeviceStrategy, EnrollmentStatus, Sequence, SequenceStatus
from siaran.sequence_logs import Event, log_events
from siaran.sequence_time import Place, StepTime, Timetable
from siaran.step_queue import DueStep, dealable, linked_devices, queue_steps, strategy_of
from siaran.step_withdrawals import withdraw_steps

# What refers to a user or sequence holds its row like this anyway; held first, nobody who has locked it waits for our contacts.
_HOLD_USERS = text("SELECT id FROM users WHERE id = ANY(CAST(:users AS uuid[])) ORDER BY id FOR KEY SHARE")

_HOLD = text("""
    SELECT q.id FROM sequences q
    WHERE q.id IN (
        SELECT e.sequence_id FROM unnest(CAST(:ids AS bigint[]), CAST(:users AS uuid[])) AS o(id, user_id)
        JOIN sequence_contacts e ON e.id = o.id AND e.user_id = o.user_id
    )
    ORDER BY q.id FOR KEY SHARE
""")

_CONTACTS = text("""
    SELECT e.id, e.user_id, e.sequence_id, e.cycle, e.current_day, e.day_one_on, e.day_one_time, e.shifted_days, e.status,
        greatest(e.resumed_at, q.resumed_at) AS resumed_at, q.status AS sequence_status,
        q.deleted_at IS NOT NULL AS is_sequence_gone, q.time_schedule, q.device_strategy, q.device_id, u.timezone
    FROM unnest(CAST(:ids AS bigint[]), CAST(:users AS uuid[])) AS o(id, user_id)
    JOIN sequence_contacts e ON e.id = o.id AND e.user_id = o.user_id
    JOIN sequences q ON q.id = e.sequence_id AND q.user_id = e.user_id
    JOIN users u ON u.id = e.user_id
    ORDER BY e.id FOR UPDATE OF e
""")

_STEPS = text("""
    SELECT st.sequence_id, st.id, st.day, st.send_time FROM sequence_steps st
    JOIN sequences q ON q.id = st.sequence_id AND q.user_id = st.user_id
    WHERE st.sequence_id = ANY(CAST(:sequences AS uuid[])) AND st.deleted_at IS NULL
""")

_MESSAGES = text("""
    SELECT m.enrollment_id,
        min(m.scheduled_at) FILTER (WHERE m.status IN ('pending', 'claimed')) AS open_since_at,
        max(coalesce(m.sent_at, m.claimed_at)) FILTER (WHERE m.status <> 'cancelled') AS went_at
    FROM unnest(CAST(:ids AS bigint[]), CAST(:users AS uuid[]), CAST(:cycles AS int[])) AS o(id, user_id, cycle)
    JOIN broadcast_messages m ON m.enrollment_id = o.id AND m.user_id = o.user_id AND m.cycle = o.cycle
    GROUP BY m.enrollment_id
""")

_MOVE = text("""
    UPDATE sequence_contacts e SET
        day_one_on = d.day_one_on, day_one_time = d.day_one_time, shifted_days = d.shifted_days, current_day = d.current_day,
        current_step = d.current_step, status = d.status, next_send_at = d.next_send_at, wanted_at = NULL,
        last_message_at = greatest(e.last_message_at, d.went_at),
        completed_at = CASE WHEN d.status = 'completed' THEN coalesce(e.completed_at, d.now) ELSE e.completed_at END
    FROM unnest(CAST(:ids AS bigint[]), CAST(:days AS date[]), CAST(:times AS time[]), CAST(:shifts AS int[]),
        CAST(:current AS int[]), CAST(:positions AS int[]), CAST(:statuses AS text[]), CAST(:nexts AS timestamptz[]),
        CAST(:went AS timestamptz[]), CAST(:nows AS timestamptz[])) AS d(
            id, day_one_on, day_one_time, shifted_days, current_day, current_step, status, next_send_at, went_at, now)
    WHERE e.id = d.id
""")

_REST = text("UPDATE sequence_contacts SET next_send_at = NULL, wanted_at = NULL WHERE id = ANY(CAST(:ids AS bigint[]))")


@dataclass(frozen=True, slots=True)
class Moved:
    """What a transaction came to: a plan for each order that found its contact, and the devices with something new to send."""

    plans: Mapping[int, StepPlan]
    devices: frozenset[UUID]


@dataclass(frozen=True, slots=True)
class _Contact:
    """A contact's row with what was decided about it."""

    row: Row[Any]
    standing: Standing
    decision: Decision
    now: datetime
    devices: Rows[UUID]

    @property
    def is_off(self) -> bool:
        """Whether nothing may go out any more: what is pending is taken back."""
        return self.standing.is_sequence_gone or self.standing.status not in {
            EnrollmentStatus.ACTIVE,
            EnrollmentStatus.COMPLETED,
        }

    @property
    def current_day(self) -> int:
        """The last day that is queued or skipped now."""
        return self.decision.place.current_day if self.decision.place else self.standing.current_day

    @property
    def due(self) -> DueStep | None:
        """The step to queue, if there is one."""
        step, at, row = self.decision.step, self.decision.due_at, self.row
        if step is None or at is None:
            return None
        strategy = strategy_of(DeviceStrategy(row.device_strategy), row.device_id)
        return DueStep(row.id, row.sequence_id, step.step_id, at, strategy, self.devices)

    @property
    def events(self) -> list[Event]:
        """What has happened to the contact now, for the log of its sequence."""
        row, step = self.row, self.decision.step
        events = []
        if step is not None:
            events.append(Event(row.user_id, row.sequence_id, row.id, "queued", self.now, step.step_id, f"day {step.day}"))
        if self.decision.status is not self.standing.status:
            events.append(Event(row.user_id, row.sequence_id, row.id, self.decision.status.value, self.now))
        return events


async def move_contacts(session: AsyncSession, orders: Rows[StepOrder]) -> Moved:
    """Plan the contacts and queue the steps that are due; the caller commits, then wakes the lanes of the devices.

    An order whose contact there is not, or is another user's, gets no plan.
    """
    wanted = {order.enrollment_id: order for order in orders}
    users = [order.user_id for order in wanted.values()]
    keys = {"ids": list(wanted), "users": users}
    await session.execute(_HOLD_USERS, {"users": sorted(set(users))})
    await session.execute(_HOLD, keys)
    rows = (await session.execute(_CONTACTS, keys)).all()
    tables = await read_timetables(session, rows)
    messages = await _read_messages(session, rows)
    latest = max(order.now for order in orders)
    devices = await linked_devices(session, {row.user_id for row in rows}, latest)
    contacts = []
    for row in rows:
        among = dealable(devices.get(row.user_id, ()), row.device_id)
        standing = _standing(row, tables[row.sequence_id], messages.get(row.id), bool(among))
        contacts.append(_Contact(row, standing, plan_contact(standing, wanted[row.id].now), wanted[row.id].now, among))
    await withdraw_steps(session, [contact.row.id for contact in contacts if contact.is_off])
    woken = await queue_steps(session, [due for contact in contacts if (due := contact.due) is not None], latest)
    await _write(session, contacts)
    await log_events(session, [event for contact in contacts for event in contact.events])
    return Moved({contact.row.id: contact.decision.plan for contact in contacts}, woken)


async def read_timetables(session: AsyncSession, rows: Rows[Row[Any]]) -> dict[UUID, Timetable]:
    """The timetables of sequences, from rows with `sequence_id`, `timezone` and `time_schedule`."""
    heads = {row.sequence_id: row for row in rows}
    steps: defaultdict[UUID, list[StepTime]] = defaultdict(list)
    for step in await session.execute(_STEPS, {"sequences": list(heads)}):
        steps[step.sequence_id].append(StepTime(step.id, step.day, step.send_time))
    return {key: Timetable.of(head.timezone, head.time_schedule, steps[key]) for key, head in heads.items()}


async def timetable_of(session: AsyncSession, sequence: Sequence, zone: str) -> Timetable:
    """The timetable of one sequence, in its user's zone."""
    rows = await session.execute(_STEPS, {"sequences": [sequence.id]})
    return Timetable.of(zone, sequence.time_schedule, [StepTime(row.id, row.day, row.send_time) for row in rows])


def place_of(row: Any) -> Place | None:
    """The place of a contact as its row has it; None before Day 1 has been fixed."""
    if row.day_one_on is None or row.day_one_time is None:
        return None
    return Place(row.day_one_on, row.day_one_time, row.shifted_days, row.current_day)


async def _read_messages(session: AsyncSession, rows: Rows[Row[Any]]) -> dict[int, Row[Any]]:
    keys = {
        "ids": [row.id for row in rows],
        "users": [row.user_id for row in rows],
        "cycles": [row.cycle for row in rows],
    }
    return {row.enrollment_id: row for row in await session.execute(_MESSAGES, keys)}


def _standing(row: Row[Any], table: Timetable, messages: Row[Any] | None, has_device: bool) -> Standing:
    return Standing(
        status=EnrollmentStatus(row.status),
        is_sequence_gone=row.is_sequence_gone,
        is_sequence_active=row.sequence_status == SequenceStatus.ACTIVE,
        table=table,
        place=place_of(row),
        current_day=row.current_day,
        resumed_at=row.resumed_at,
        open_since_at=messages.open_since_at if messages else None,
        went_at=messages.went_at if messages else None,
        has_device=has_device,
    )


async def _write(session: AsyncSession, contacts: Rows[_Contact]) -> None:
    """Write the contacts' rows; of those that are off, only that their workflows have seen it."""
    off = [contact.row.id for contact in contacts if contact.is_off]
    await session.execute(_REST, {"ids": off})
    moved = [contact for contact in contacts if not contact.is_off]
    places = [contact.decision.place for contact in moved]
    await session.execute(
        _MOVE,
        {
            "ids": [contact.row.id for contact in moved],
            "days": [place.day_one_on if place else None for place in places],
            "times": [place.day_one_time if place else None for place in places],
            "shifts": [place.shifted_days if place else 0 for place in places],
            "current": [contact.current_day for contact in moved],
            "positions": [contact.standing.table.position(contact.current_day) for contact in moved],
            "statuses": [contact.decision.status.value for contact in moved],
            "nexts": [contact.decision.plan.next_at for contact in moved],
            "went": [contact.standing.went_at for contact in moved],
            "nows": [contact.now for contact in moved],
        },
    )
