"""Queueing steps of sequences: on which device each goes out, and its row in the ledger."""

from collections import defaultdict
from collections.abc import Mapping
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.ledger.counters import Change, change_counters
from siaran.models import DeviceStrategy, MessageStatus, sequence_source

# Devices that can send come first; if a user has none, the linked ones, and the messages wait there.
_DEVICES = text("""
    SELECT d.user_id, d.id, d.status = 'online' AND h.id IS NOT NULL AND l.paused_at IS NULL
        AND (d.restricted_until_at IS NULL OR d.restricted_until_at <= :now) AS can_send
    FROM user_devices d
    JOIN lanes l ON l.device_id = d.id
    LEFT JOIN hosts h ON h.id = d.host_id AND h.ended_at IS NULL AND h.expires_at > now()
    WHERE d.user_id = ANY(CAST(:users AS uuid[])) AND d.deleted_at IS NULL AND d.is_active AND d.jid IS NOT NULL
        AND d.status NOT IN ('logged_out', 'banned')
    ORDER BY d.created_at, d.id
""")

# The lead's own device alone (strategy `owner`), the device that wrote to the contact last (`sticky`), else the one dealt out.
# A row that was cancelled when its contact paused is taken up again; any other row of the step stays as it is.
_QUEUE = text("""
    WITH due AS (
        SELECT e.*, d.step_id, d.due_at, d.dealt, d.strategy, d.source, st.message_type, l.device_id AS own_device,
            coalesce(nullif(l.name, ''), e.contact_name) AS name, coalesce(l.niche, '') AS niche
        FROM unnest(CAST(:ids AS bigint[]), CAST(:steps AS uuid[]), CAST(:dues AS timestamptz[]), CAST(:dealt AS uuid[]),
            CAST(:strategies AS text[]), CAST(:sources AS text[])) AS d(id, step_id, due_at, dealt, strategy, source)
        JOIN sequence_contacts e ON e.id = d.id
        JOIN sequence_steps st ON st.id = d.step_id AND st.user_id = e.user_id
        LEFT JOIN leads l ON l.id = e.lead_id AND l.user_id = e.user_id
    ), placed AS (
        SELECT due.*, CASE due.strategy
            WHEN 'owner' THEN (SELECT o.id FROM user_devices o
                WHERE o.id = due.own_device AND o.user_id = due.user_id AND o.deleted_at IS NULL)
            WHEN 'sticky' THEN (SELECT m.device_id FROM broadcast_messages m
                WHERE m.user_id = due.user_id AND m.recipient_phone = due.contact_phone AND m.sent_at IS NOT NULL
                    AND m.device_id = ANY(CAST(:usable AS uuid[])) ORDER BY m.sent_at DESC LIMIT 1)
            END AS bound_to
        FROM due
    )
    INSERT INTO broadcast_messages (user_id, device_id, sequence_id, enrollment_id, cycle, step_id, lead_id, source,
        recipient_phone, recipient_name, recipient_niche, message_type, scheduled_at, status, error_code, error_message)
    SELECT p.user_id, coalesce(p.bound_to, p.dealt), p.sequence_id, p.id, p.cycle, p.step_id, p.lead_id, p.source,
        p.contact_phone, p.name, p.niche, p.message_type, p.due_at,
        CASE WHEN p.is_homeless THEN 'failed' ELSE 'pending' END, CASE WHEN p.is_homeless THEN 'no_own_device' END,
        CASE WHEN p.is_homeless THEN 'This lead has no device of its own to be written to from.' END
    FROM (SELECT placed.*, strategy = 'owner' AND bound_to IS NULL AS is_homeless FROM placed) p ORDER BY p.id
    ON CONFLICT (enrollment_id, cycle, step_id) WHERE enrollment_id IS NOT NULL DO UPDATE SET
        device_id = excluded.device_id, status = excluded.status, scheduled_at = excluded.scheduled_at,
        error_code = excluded.error_code, error_message = excluded.error_message
    WHERE broadcast_messages.status = 'cancelled'
    RETURNING device_id, user_id, status
""")


@dataclass(frozen=True, slots=True)
class DueStep:
    """A contact's step that is due; `devices` are those among which the contacts of its sequence are dealt out, never none."""

    enrollment_id: int
    sequence_id: UUID
    step_id: UUID
    due_at: datetime
    strategy: DeviceStrategy
    devices: Rows[UUID]


@dataclass(frozen=True, slots=True)
class UserDevice:
    """A linked device of somebody who has steps due."""

    id: UUID
    can_send: bool


async def linked_devices(session: AsyncSession, users: set[UUID], now: datetime) -> Mapping[UUID, Rows[UserDevice]]:
    """The linked devices of each user, in a fixed order."""
    found: defaultdict[UUID, list[UserDevice]] = defaultdict(list)
    for row in await session.execute(_DEVICES, {"users": sorted(users), "now": now}):
        found[row.user_id].append(UserDevice(row.id, row.can_send))
    return found


def dealable(devices: Rows[UserDevice], only: UUID | None) -> list[UUID]:
    """The devices among which contacts are dealt out: those that can send, else the linked ones; `only` leaves no other."""
    linked = [device for device in devices if only in {None, device.id}]
    return [device.id for device in linked if device.can_send] or [device.id for device in linked]


def strategy_of(strategy: DeviceStrategy, only: UUID | None) -> DeviceStrategy:
    """How the device of a step is chosen: where there is only one, nothing is left to stick to."""
    return DeviceStrategy.BALANCED if only is not None and strategy is DeviceStrategy.STICKY else strategy


async def queue_steps(session: AsyncSession, due: Rows[DueStep], now: datetime) -> frozenset[UUID]:
    """Write the ledger rows of due steps, in one statement; returns the devices that have got a message to send.

    A step that has a row is left as it is, unless that was cancelled. The caller holds the contacts' locks, and commits.
    """
    if not due:
        return frozenset()
    written = await session.execute(
        _QUEUE,
        {
            "ids": [step.enrollment_id for step in due],
            "steps": [step.step_id for step in due],
            "dues": [step.due_at for step in due],
            "dealt": [step.devices[step.enrollment_id % len(step.devices)] for step in due],
            "strategies": [step.strategy.value for step in due],
            "sources": [sequence_source(step.sequence_id) for step in due],
            "usable": sorted({device for step in due for device in step.devices}),
        },
    )
    rows = written.all()
    await change_counters(
        session,
        [Change(None, row.device_id, row.user_id, None, MessageStatus(row.status), after_at=now) for row in rows],
    )
    return frozenset(row.device_id for row in rows if row.status == MessageStatus.PENDING)
