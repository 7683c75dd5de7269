"""Claiming: one row per asking device, just before it is transmitted, with everything checked that could have changed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.ledger.contact_limits import LimitedClaim, suppress_over_limit
from siaran.ledger.counters import Change, change_counters
from siaran.models import ONE_OFF, MessageStatus
from siaran.pacing import Caps
from siaran.quiet_hours import SendingHours
from siaran.rendering import render
from siaran.warm_up import daily_cap


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """A device asks for its next message; `after_source` is whose message it sent last."""

    device_id: UUID
    after_source: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimed message as it is to be transmitted, or a suppressed one that is not.

    `min_delay_seconds` and `max_delay_seconds` bound the gap after it; `caps` are those of its device, as edited last.
    """

    message_id: int
    attempt: int
    device_id: UUID
    user_id: UUID
    campaign_id: int | None
    sequence_id: UUID | None
    source: str
    phone: str
    message_type: str
    content: str
    media_url: str | None
    min_delay_seconds: int
    max_delay_seconds: int
    is_suppressed: bool
    link_generation: int
    caps: Caps


class FencedError(Exception):
    """The host's lease is gone: another host may hold its devices."""


# A lease row held FOR SHARE keeps the fleet from ending the host until the claim is committed.
_LEASE = text("SELECT 1 FROM hosts WHERE id = :host AND ended_at IS NULL AND expires_at > now() FOR SHARE")

# Only those users are looked at who do not send around the clock.
_HOURS = text("""
    SELECT d.id, u.timezone, u.quiet_from, u.quiet_until, u.sending_weekdays
    FROM user_devices d JOIN users u ON u.id = d.user_id
    WHERE d.id = ANY(CAST(:devices AS uuid[])) AND (u.quiet_from IS NOT NULL OR cardinality(u.sending_weekdays) < 7)
""")

# `sources` walks the partial index from one source to the next, so a long or paused campaign at its head costs one probe.
# Whose turn it is: one-offs first, then the source after the last one served, round and round.
# A device that may not open new chats (463) takes no message to one; its lane holds those back, or gives them away.
# The outer UPDATE repeats device and state: without that, a claim that waited behind a bulk move took rows that had moved.
_CLAIM = text("""
    WITH RECURSIVE ask AS MATERIALIZED (
        SELECT a.device_id, a.after_source, a.is_quiet, d.link_generation, d.user_id, d.min_delay_seconds, d.max_delay_seconds,
            d.max_per_minute, d.max_per_hour, d.max_per_day, d.warm_up_started_at, d.warm_up_first_day, d.warm_up_daily_step,
            coalesce(d.restricted_until_at > :now, false) AS is_restricted, u.contact_limit IS NOT NULL AS has_contact_limit
        FROM unnest(CAST(:devices AS uuid[]), CAST(:after AS text[]), CAST(:quiet AS bool[]))
            AS a(device_id, after_source, is_quiet)
        JOIN user_devices d ON d.id = a.device_id AND d.host_id = :host AND d.is_active AND d.deleted_at IS NULL
        JOIN users u ON u.id = d.user_id AND u.is_active
        JOIN lanes l ON l.device_id = a.device_id AND l.paused_at IS NULL
    ), sources AS (
        SELECT ask.device_id, (
            SELECT m.source FROM broadcast_messages m
            WHERE m.device_id = ask.device_id AND m.status = 'pending' ORDER BY m.source LIMIT 1
        ) AS source FROM ask
        UNION ALL
        SELECT s.device_id, (
            SELECT m.source FROM broadcast_messages m
            WHERE m.device_id = s.device_id AND m.status = 'pending' AND m.source > s.source ORDER BY m.source LIMIT 1
        ) FROM sources s WHERE s.source IS NOT NULL
    ), heads AS (
        SELECT DISTINCT ON (s.device_id) s.device_id, head.id
        FROM sources s
        JOIN ask ON ask.device_id = s.device_id
        CROSS JOIN LATERAL (
            SELECT m.id, m.campaign_id, m.sequence_id, m.recipient_phone FROM broadcast_messages m
            WHERE m.device_id = s.device_id AND m.source = s.source AND m.status = 'pending' AND m.scheduled_at <= :now
            ORDER BY m.scheduled_at, m.id LIMIT 1
        ) head
        LEFT JOIN campaigns c ON c.id = head.campaign_id
        LEFT JOIN sequences q ON q.id = head.sequence_id
        WHERE (head.campaign_id IS NULL OR c.status IN ('sending', 'waiting'))
            AND (head.sequence_id IS NULL OR q.status = 'active')
            AND (NOT ask.is_quiet OR s.source = '!')
            AND (NOT ask.is_restricted OR has_chat(ask.user_id, ask.device_id, head.recipient_phone))
        ORDER BY s.device_id, s.source <> '!', s.source <= ask.after_source, s.source
    ), locked AS MATERIALIZED (
        SELECT m.id FROM broadcast_messages m
        WHERE m.id IN (SELECT heads.id FROM heads) AND m.status = 'pending'
        FOR UPDATE SKIP LOCKED
    )
    UPDATE broadcast_messages m SET
        status = CASE WHEN body.is_suppressed THEN 'suppressed' ELSE 'claimed' END,
        attempt = m.attempt + CASE WHEN body.is_suppressed THEN 0 ELSE 1 END,
        claimed_at = :now, is_retryable = false,
        error_code = CASE WHEN body.is_suppressed THEN 'opted_out' END,
        error_message = CASE WHEN body.is_suppressed THEN 'This contact has opted out.' END
    FROM (
        SELECT b.id, ask.device_id, ask.link_generation, ask.max_per_minute, ask.max_per_hour, ask.max_per_day,
            ask.warm_up_started_at, ask.warm_up_first_day, ask.warm_up_daily_step, ask.has_contact_limit,
            CASE WHEN c.id IS NOT NULL THEN c.message_type ELSE coalesce(st.message_type, b.message_type) END AS message_type,
            CASE WHEN c.id IS NOT NULL THEN c.message
                ELSE coalesce(nullif(st.content, ''), st.caption, b.content, '') END AS template,
            CASE WHEN c.id IS NOT NULL THEN c.image_url ELSE coalesce(st.media_url, b.media_url) END AS media_url,
            coalesce(c.min_delay_seconds, st.min_delay_seconds, q.min_delay_seconds, ask.min_delay_seconds) AS min_delay,
            coalesce(c.max_delay_seconds, st.max_delay_seconds, q.max_delay_seconds, ask.max_delay_seconds) AS max_delay,
            NOT b.ignores_opt_out AND EXISTS (
                SELECT FROM suppressions x
                WHERE x.user_id = b.user_id AND x.phone = b.recipient_phone AND x.lifted_at IS NULL
            ) AS is_suppressed
        FROM locked
        JOIN broadcast_messages b ON b.id = locked.id
        JOIN ask ON ask.device_id = b.device_id AND ask.user_id = b.user_id
        LEFT JOIN campaigns c ON c.id = b.campaign_id AND c.user_id = b.user_id
        LEFT JOIN sequences q ON q.id = b.sequence_id AND q.user_id = b.user_id
        LEFT JOIN sequence_steps st ON st.id = b.step_id AND st.user_id = b.user_id
    ) body
    WHERE m.id = body.id AND m.device_id = body.device_id AND m.status = 'pending'
    RETURNING m.id, m.attempt, m.device_id, m.user_id, m.campaign_id, m.sequence_id, m.source, m.recipient_phone,
        m.recipient_name, m.recipient_niche, body.message_type, body.template, body.media_url, body.min_delay,
        body.max_delay, body.is_suppressed, body.link_generation, body.max_per_minute, body.max_per_hour, body.max_per_day,
        body.warm_up_started_at, body.warm_up_first_day, body.warm_up_daily_step, body.has_contact_limit
""")

_ATTEMPT = text("""
    INSERT INTO message_attempts
        (message_id, attempt, device_id, user_id, host_id, link_generation, outcome, content, media_url, attempted_at)
    SELECT a.*, :now FROM unnest(
        CAST(:messages AS bigint[]), CAST(:attempts AS int[]), CAST(:devices AS uuid[]), CAST(:users AS uuid[]),
        CAST(:hosts AS bigint[]), CAST(:generations AS int[]), CAST(:outcomes AS text[]), CAST(:contents AS text[]),
        CAST(:media AS text[])
    ) a
""")


def _content(row: Row[Any]) -> str:
    """What a claimed row says: campaigns and steps are templates, one-off messages stand as they were written."""
    template: str = row.template
    if row.source == ONE_OFF:
        return template
    return render(template, name=row.recipient_name, phone=row.recipient_phone, niche=row.recipient_niche, seed=row.id)


def _claim(row: Row[Any], now: datetime) -> Claim:
    per_day = daily_cap(row.max_per_day, row.warm_up_started_at, row.warm_up_first_day, row.warm_up_daily_step, now)
    return Claim(
        message_id=row.id,
        attempt=row.attempt,
        device_id=row.device_id,
        user_id=row.user_id,
        campaign_id=row.campaign_id,
        sequence_id=row.sequence_id,
        source=row.source,
        phone=row.recipient_phone,
        message_type=row.message_type,
        content=_content(row),
        media_url=row.media_url,
        min_delay_seconds=row.min_delay,
        max_delay_seconds=row.max_delay,
        is_suppressed=row.is_suppressed,
        link_generation=row.link_generation,
        caps=Caps(row.max_per_minute, row.max_per_hour, per_day),
    )


async def claim_messages(session: AsyncSession, host_id: int, requests: Sequence[ClaimRequest], now: datetime) -> list[Claim]:
    """Claim at most one due message for each asking device, in one transaction that the caller commits.

    A device gets none when it has no due row of a campaign or sequence that is under way, when its lane is paused, when its
    user is deactivated, or when it is not this host's any more; none but one-off messages in its user's quiet hours; and none
    to a new chat while WhatsApp lets it open none. Rows of phones that opted out, or have had as many messages as their user
    allows, end here, and come back marked as suppressed. Raises `FencedError` when the host's own lease is gone.
    """
    if (await session.execute(_LEASE, {"host": host_id})).first() is None:
        raise FencedError
    devices = [request.device_id for request in requests]
    quiet = await _quiet_devices(session, devices, now)
    found = await session.execute(
        _CLAIM,
        {
            "devices": devices,
            "after": [request.after_source for request in requests],
            "quiet": [device in quiet for device in devices],
            "host": host_id,
            "now": now,
        },
    )
    rows = found.all()
    limited = [
        LimitedClaim(row.id, row.user_id, row.recipient_phone)
        for row in rows
        if row.has_contact_limit and row.source != ONE_OFF and not row.is_suppressed
    ]
    over = await suppress_over_limit(session, limited, now)
    claims = [_claim(row, now) for row in rows]
    claims = [replace(claim, is_suppressed=True) if claim.message_id in over else claim for claim in claims]
    await _write_attempts(session, host_id, [claim for claim in claims if not claim.is_suppressed], now)
    await change_counters(
        session,
        [
            Change(claim.campaign_id, claim.device_id, claim.user_id, MessageStatus.PENDING, MessageStatus.SUPPRESSED)
            for claim in claims
            if claim.is_suppressed
        ],
    )
    return claims


async def _quiet_devices(session: AsyncSession, devices: Sequence[UUID], now: datetime) -> set[UUID]:
    """Those of the devices whose users let nothing go out at that instant."""
    rows = await session.execute(_HOURS, {"devices": devices})
    return {
        row.id
        for row in rows
        if not SendingHours(row.timezone, row.quiet_from, row.quiet_until, frozenset(row.sending_weekdays)).is_open(now)
    }


async def _write_attempts(session: AsyncSession, host_id: int, claims: Sequence[Claim], now: datetime) -> None:
    if not claims:
        return
    await session.execute(
        _ATTEMPT,
        {
            "messages": [claim.message_id for claim in claims],
            "attempts": [claim.attempt for claim in claims],
            "devices": [claim.device_id for claim in claims],
            "users": [claim.user_id for claim in claims],
            "hosts": [host_id] * len(claims),
            "generations": [claim.link_generation for claim in claims],
            "outcomes": ["open"] * len(claims),
            "contents": [claim.content for claim in claims],
            "media": [claim.media_url for claim in claims],
            "now": now,
        },
    )
