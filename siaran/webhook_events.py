"""Events for webhooks: written to the outbox in the transaction of what they tell of, one row for each address."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.contracts import WebhookInput

_TOLD = "webhooks_told"
"""Where a session remembers which addresses its transactions have written something for."""


class WebhookEvent(StrEnum):
    """What a webhook can be told of."""

    MESSAGE = "message"
    RECEIPT = "receipt"
    DEVICE_STATUS = "device.status"
    CAMPAIGN_COMPLETED = "campaign.completed"
    LEAD_OPTED_OUT = "lead.opted_out"
    MESSAGE_FAILED = "message.failed"


PING = "ping"
"""The event of a delivery that a user asks for to try a webhook out; nobody subscribes to it."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """Something that happened to a user's things; `data` is JSON as it is sent, with names in camelCase."""

    user_id: UUID
    event: WebhookEvent
    data: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Subscribers:
    """Which addresses of which users want to be told, as they stand in the present transaction.

    `defaults` are the installation's own addresses, for messages of users who have no webhook of their own for them.
    """

    webhooks: Mapping[tuple[UUID, str], Sequence[UUID]]
    defaults: Sequence[str] = ()

    def wants(self, user_id: UUID, event: WebhookEvent) -> bool:
        """Whether anybody is to be told of such an event of a user's."""
        return (user_id, event) in self.webhooks or (event is WebhookEvent.MESSAGE and bool(self.defaults))


_SUBSCRIBERS = text("""
    SELECT w.id, w.user_id, e.event
    FROM webhooks w CROSS JOIN LATERAL unnest(w.events) AS e(event)
    WHERE w.user_id = ANY(CAST(:users AS uuid[])) AND w.is_active AND w.deleted_at IS NULL
        AND e.event = ANY(CAST(:events AS text[]))
    ORDER BY w.created_at, w.id
""")

_WRITE = text("""
    INSERT INTO webhook_deliveries (user_id, webhook_id, target, event, body, status)
    SELECT r.user_id, r.webhook_id, r.target, r.event, r.body, 'pending'
    FROM unnest(
        CAST(:users AS uuid[]), CAST(:webhooks AS uuid[]), CAST(:targets AS text[]), CAST(:events AS text[]),
        CAST(:bodies AS bytea[])
    ) WITH ORDINALITY AS r(user_id, webhook_id, target, event, body, position)
    ORDER BY r.position
""")


async def find_subscribers(
    session: AsyncSession, user_ids: Collection[UUID], events: Collection[WebhookEvent], *, defaults: Sequence[str] = ()
) -> Subscribers:
    """Who wants to be told of such events of these users: one short query, whose answer is never older than the transaction.

    It is not cached, so that a webhook hears of everything from the moment on at which it was created. Callers write in
    groups, so that it costs one look at a small index for hundreds of events.
    """
    found: dict[tuple[UUID, str], list[UUID]] = defaultdict(list)
    wanted = {"users": sorted(user_ids), "events": [event.value for event in events]}
    for row in await session.execute(_SUBSCRIBERS, wanted):
        found[row.user_id, row.event].append(row.id)
    return Subscribers(found, tuple(defaults))


async def announce(
    session: AsyncSession,
    announcements: Sequence[Announcement],
    *,
    defaults: Sequence[str] = (),
    known: Subscribers | None = None,
) -> None:
    """Write what happened for every address that wants to know; the caller commits, then calls `nudge_webhooks`.

    `known` are the subscribers, where the caller has looked them up before it made the announcements.
    """
    if not announcements:
        return
    if known is None:
        users = {announcement.user_id for announcement in announcements}
        events = {announcement.event for announcement in announcements}
        known = await find_subscribers(session, users, events, defaults=defaults)
    rows = [
        (announcement.user_id, webhook_id, target, announcement.event.value, body)
        for announcement in announcements
        if known.wants(announcement.user_id, announcement.event)
        for body in (body_of(announcement.event, announcement.data),)
        for webhook_id, target in _targets(known, announcement)
    ]
    await write_deliveries(session, rows)


Row = tuple[UUID, UUID | None, str, str, bytes]
"""User, webhook, target, event, body."""


async def write_deliveries(session: AsyncSession, rows: Sequence[Row]) -> None:
    """Write deliveries, due at once, in their order, and remember whose workflows to nudge after the commit."""
    if not rows:
        return
    await session.execute(
        _WRITE,
        {
            "users": [row[0] for row in rows],
            "webhooks": [row[1] for row in rows],
            "targets": [row[2] for row in rows],
            "events": [row[3] for row in rows],
            "bodies": [row[4] for row in rows],
        },
    )
    note_told(session, (WebhookInput(row[0], row[2]) for row in rows))


def note_told(session: AsyncSession, targets: Iterable[WebhookInput]) -> None:
    """Have `targets_told` name these addresses, too."""
    session.info.setdefault(_TOLD, set()).update(targets)


def targets_told(session: AsyncSession) -> set[WebhookInput]:
    """The addresses for which something was written with a session since the last call; ask once it is committed."""
    told: set[WebhookInput] = session.info.pop(_TOLD, set())
    return told


def _targets(known: Subscribers, announcement: Announcement) -> list[tuple[UUID | None, str]]:
    own = known.webhooks.get((announcement.user_id, announcement.event), ())
    if own:
        return [(webhook_id, str(webhook_id)) for webhook_id in own]
    if announcement.event is not WebhookEvent.MESSAGE:
        return []
    return [(None, default_target(announcement.user_id, address)) for address in known.defaults]


def default_target(user_id: UUID, address: str) -> str:
    """What stands for a user's queue to one of the installation's addresses: a digest, since it is in workflow ids."""
    return hashlib.sha256(f"{user_id} {address}".encode()).hexdigest()[:32]


def split_addresses(setting: str) -> tuple[str, ...]:
    """The addresses in a setting that separates them by commas, each once."""
    return tuple(dict.fromkeys(part.strip() for part in setting.split(",") if part.strip()))


def body_of(event: str, data: Mapping[str, object]) -> bytes:
    """Exactly what is sent and signed: JSON in UTF-8."""
    return json.dumps({"event": event, "data": data}, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def moment(at: datetime) -> str:
    """An instant as it stands in bodies: ISO 8601, UTC, to the millisecond."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
