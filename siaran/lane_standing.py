"""What a lane's rows say of it, and what the lane should do next."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.contracts import LaneAction, LaneCheck, LanePlan, SliceEnd
from siaran.models import DeviceStatus
from siaran.quiet_hours import SendingHours

LOOK_AGAIN = timedelta(seconds=60)
"""How often a lane that waits for a device, its own or another, looks again by itself."""

LOOK_RARELY = timedelta(minutes=10)
"""How often a lane looks again that waits for a person: what it waits with may have been cancelled meanwhile."""

NEXT_DUE = "next message due"
NEW_CHATS_HELD = "WhatsApp lets the device open no new chats for now"
QUIET_HOURS = "quiet hours"
CAMPAIGN_PAUSED = "campaign paused"
CONNECTION = "connection"
"""What a lane waits for that has nothing to do with its device; shown to people."""

RECONNECTING = timedelta(seconds=2)
"""How long a lane waits for a connection that PostgreSQL still shows as there."""


@dataclass(frozen=True, slots=True)
class LaneStanding:
    """A lane as its rows show it; `next_due_at` is None when nothing pending may be sent at the moment.

    `has_bound` says that something pending may be sent by this device only, `next_one_off_at` when the next one-off message is
    due, which knows no quiet hours, and `opens_new_chat` that the device is restricted and something due goes to a new chat.
    """

    device_status: DeviceStatus
    is_gone: bool
    has_live_host: bool
    offline_since_at: datetime | None
    restricted_until_at: datetime | None
    is_paused: bool
    has_pending: bool
    has_claimed: bool
    next_due_at: datetime | None
    can_move: bool
    is_deleted: bool = False
    has_bound: bool = False
    is_user_inactive: bool = False
    opens_new_chat: bool = False
    next_one_off_at: datetime | None = None
    hours: SendingHours | None = None

    def is_restricted(self, now: datetime) -> bool:
        """Whether WhatsApp lets the device open no new chats."""
        return self.restricted_until_at is not None and self.restricted_until_at > now

    @property
    def is_connected(self) -> bool:
        """Whether a host says that the device is online."""
        return self.device_status is DeviceStatus.ONLINE and self.has_live_host and not self.is_gone


_STANDING = text("""
    WITH RECURSIVE sources AS (
        SELECT (
            SELECT m.source FROM broadcast_messages m
            WHERE m.device_id = :device AND m.status = 'pending' ORDER BY m.source LIMIT 1
        ) AS source
        UNION ALL
        SELECT (
            SELECT m.source FROM broadcast_messages m
            WHERE m.device_id = :device AND m.status = 'pending' AND m.source > s.source ORDER BY m.source LIMIT 1
        ) FROM sources s WHERE s.source IS NOT NULL
    ), heads AS (
        SELECT s.source, head.scheduled_at, head.recipient_phone,
            (head.campaign_id IS NULL OR c.status IN ('sending', 'waiting'))
                AND (head.sequence_id IS NULL OR q.status = 'active') AS is_under_way,
            coalesce(c.device_strategy, q.device_strategy, 'owner') <> 'owner'
                AND coalesce(c.device_id, q.device_id) IS NULL AS is_movable
        FROM sources s
        CROSS JOIN LATERAL (
            SELECT m.scheduled_at, m.campaign_id, m.sequence_id, m.recipient_phone FROM broadcast_messages m
            WHERE m.device_id = :device AND m.source = s.source AND m.status = 'pending'
            ORDER BY m.scheduled_at, m.id LIMIT 1
        ) head
        LEFT JOIN campaigns c ON c.id = head.campaign_id AND c.user_id = :user
        LEFT JOIN sequences q ON q.id = head.sequence_id AND q.user_id = :user
        WHERE s.source IS NOT NULL
    )
    SELECT d.status AS device_status, d.deleted_at IS NOT NULL OR NOT d.is_active AS is_gone, h.id IS NOT NULL AS has_live_host,
        d.offline_since_at, d.restricted_until_at, l.paused_at IS NOT NULL AS is_paused, NOT u.is_active AS is_user_inactive,
        EXISTS (SELECT FROM heads) AS has_pending,
        EXISTS (SELECT FROM broadcast_messages m WHERE m.device_id = d.id AND m.status = 'claimed') AS has_claimed,
        (SELECT min(scheduled_at) FROM heads WHERE is_under_way) AS next_due_at,
        (SELECT min(scheduled_at) FROM heads WHERE source = '!') AS next_one_off_at,
        d.restricted_until_at > :now AND EXISTS (
            SELECT FROM heads WHERE is_under_way AND scheduled_at <= :now AND NOT has_chat(:user, :device, recipient_phone)
        ) AS opens_new_chat,
        u.timezone, u.quiet_from, u.quiet_until, u.sending_weekdays,
        d.deleted_at IS NOT NULL AS is_deleted, EXISTS (SELECT FROM heads WHERE NOT is_movable) AS has_bound,
        EXISTS (SELECT FROM heads WHERE is_movable) AND EXISTS (
            SELECT FROM user_devices o
            JOIN hosts oh ON oh.id = o.host_id AND oh.ended_at IS NULL AND oh.expires_at > now()
            JOIN lanes ol ON ol.device_id = o.id AND ol.paused_at IS NULL
            WHERE o.user_id = :user AND o.id <> d.id AND o.status = 'online' AND o.is_active AND o.deleted_at IS NULL
                AND (o.restricted_until_at IS NULL OR o.restricted_until_at <= :now)
        ) AS can_move
    FROM user_devices d
    JOIN users u ON u.id = d.user_id
    JOIN lanes l ON l.device_id = d.id
    LEFT JOIN hosts h ON h.id = d.host_id AND h.ended_at IS NULL AND h.expires_at > now()
    WHERE d.id = :device AND d.user_id = :user
""")


async def lane_standing(session: AsyncSession, user_id: UUID, device_id: UUID, now: datetime) -> LaneStanding:
    """Look at a lane's rows; the caller holds the lane row's lock, so that no wake is lost in between."""
    row = (await session.execute(_STANDING, {"device": device_id, "user": user_id, "now": now})).one()
    values = dict(row._mapping)  # noqa: SLF001 -- SQLAlchemy's public way to a row's names
    zone, start, end = (values.pop(name) for name in ("timezone", "quiet_from", "quiet_until"))
    values |= {
        "device_status": DeviceStatus(row.device_status),
        "hours": SendingHours(zone, start, end, frozenset(values.pop("sending_weekdays"))),
        "opens_new_chat": bool(row.opens_new_chat),
    }
    return LaneStanding(**values)


def plan_lane(standing: LaneStanding, check: LaneCheck, now: datetime, failover_after: timedelta) -> LanePlan:
    """What a lane does next; while a row is pending it sends it, moves it, or waits and says for what."""
    if not standing.has_pending and not standing.has_claimed:
        return LanePlan(LaneAction.END)
    if standing.is_deleted and standing.has_bound:
        return LanePlan(LaneAction.FAIL_OVER, "device removed")
    if standing.is_connected and check.ended in {SliceEnd.OFFLINE, SliceEnd.FENCED}:
        return LanePlan(LaneAction.WAIT, CONNECTION, now + RECONNECTING)
    if standing.is_connected and standing.has_claimed:
        # What somebody who is gone had claimed is settled first, which transmits nothing: no campaign ends before.
        return LanePlan(LaneAction.SEND)
    held = _held(standing, now) or _away(standing, now, failover_after) or _early(standing, now)
    if held is not None:
        return held
    if check.ended is SliceEnd.CAP and check.next_at is not None and check.next_at > now:
        return LanePlan(LaneAction.WAIT, "cap of the device", check.next_at)
    return LanePlan(LaneAction.SEND)


def _held(standing: LaneStanding, now: datetime) -> LanePlan | None:
    """The plan of a lane whose messages somebody holds back; None when nobody does."""
    if standing.is_user_inactive:
        return LanePlan(LaneAction.WAIT, "account deactivated", now + LOOK_AGAIN)
    if standing.is_paused:
        return LanePlan(LaneAction.WAIT, "stopped by the user", now + LOOK_RARELY)
    if not standing.has_claimed and standing.next_due_at is None:
        return LanePlan(LaneAction.WAIT, CAMPAIGN_PAUSED, now + LOOK_RARELY)
    return None


def _early(standing: LaneStanding, now: datetime) -> LanePlan | None:
    """The plan of a lane that may not send yet what it has; None when something may go out."""
    if standing.opens_new_chat:
        return LanePlan(LaneAction.FAIL_OVER, NEW_CHATS_HELD)
    if standing.next_due_at is not None and standing.next_due_at > now:
        # What was put off is due when the restriction was to end then; WhatsApp may have prolonged it since.
        until_at = standing.restricted_until_at
        why = NEW_CHATS_HELD if until_at is not None and standing.next_due_at <= until_at else NEXT_DUE
        return LanePlan(LaneAction.WAIT, why, standing.next_due_at)
    if standing.hours is None or standing.hours.is_open(now):
        return None
    opens_at = standing.hours.next_open_at(now)
    if standing.next_one_off_at is None:
        return LanePlan(LaneAction.WAIT, QUIET_HOURS, opens_at)
    if standing.next_one_off_at > now:
        return LanePlan(LaneAction.WAIT, QUIET_HOURS, min(opens_at, standing.next_one_off_at))
    return None


def _away(standing: LaneStanding, now: datetime, failover_after: timedelta) -> LanePlan | None:
    """The plan of a lane whose device cannot send at the moment; None when it can."""
    lost = standing.is_gone or standing.device_status in {DeviceStatus.BANNED, DeviceStatus.LOGGED_OUT}
    if standing.is_connected:
        return None
    why = "device removed" if standing.is_gone else f"device {_plain(standing)}"
    if standing.next_due_at is not None and standing.can_move:
        moves_at = now if lost else _away_since(standing, now) + failover_after
        if moves_at <= now:
            return LanePlan(LaneAction.FAIL_OVER, why)
        return LanePlan(LaneAction.WAIT, why, moves_at)
    return LanePlan(LaneAction.WAIT, why, now + LOOK_AGAIN)


def _away_since(standing: LaneStanding, now: datetime) -> datetime:
    if standing.offline_since_at is not None:
        return standing.offline_since_at
    # Online without a live host: the host has just died and nobody has noted it yet. Otherwise it was never online.
    return now if standing.device_status is DeviceStatus.ONLINE else datetime.min.replace(tzinfo=now.tzinfo)


def _plain(standing: LaneStanding) -> str:
    status = standing.device_status
    return "offline" if status is DeviceStatus.ONLINE else status.value.replace("_", " ")
