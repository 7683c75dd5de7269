"""The sweep: what a crash between a commit and a signal left undone, and what got stuck."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import text
from temporalio import activity

from activities.imports import sweep_imports
from activities.resources import Resources
from siaran.contracts import CampaignInput, LaneInput, RetryInput, SweepResult
from siaran.forgotten_sequences import forgotten_sequences
from siaran.incoming import forget_incoming
from siaran.lane_standing import CAMPAIGN_PAUSED, NEW_CHATS_HELD, NEXT_DUE, QUIET_HOURS
from siaran.lanes import wake_lanes
from siaran.ledger.settlement import sweep_stale_claims
from siaran.sequence_signals import nudge_sequence
from siaran.temporal import nudge_campaign, request_retry, restart_lanes, signal_lanes
from siaran.webhook_outbox import forgotten_webhooks, prune_deliveries
from siaran.webhook_signals import nudge_webhooks

LATE = timedelta(seconds=30)
"""What should have begun this long ago has been forgotten by somebody."""

STUCK = timedelta(minutes=10)
"""A lane with due rows and no progress for this long is restarted."""

SILENT = timedelta(seconds=60)
"""A lane that runs does something in this time, or has said when it will."""

MOST = 500
"""Lanes brought back by one sweep; the next one goes on."""

# One with a threshold has to look at its rates, also where the signal that it was resumed found Temporal away.
_CAMPAIGNS = text("""
    SELECT c.id, c.user_id FROM campaigns c
    WHERE (c.status = 'scheduled' AND c.scheduled_at < :late)
        OR (c.status IN ('sending', 'waiting') AND c.expanded_at IS NULL AND c.updated_at < :late)
        OR (c.status IN ('sending', 'waiting') AND NOT EXISTS (
            SELECT FROM broadcast_messages m WHERE m.campaign_id = c.id AND m.status IN ('pending', 'claimed')))
        OR (c.status IN ('sending', 'waiting') AND c.updated_at < :late
            AND coalesce(c.stop_failed_percent, c.stop_opted_out_percent) IS NOT NULL)
        OR (c.status = 'cancelled' AND c.updated_at BETWEEN :yesterday AND :late AND EXISTS (
            SELECT FROM broadcast_messages m WHERE m.campaign_id = c.id AND m.status = 'pending'))
    ORDER BY c.id
""")

_RETRIES = text("SELECT id, campaign_id, user_id FROM campaign_retries WHERE done_at IS NULL AND requested_at < :late")

# A waker died before its signal: its lane would sleep for ever, or, over a one-off message, until quiet hours end.
_ASLEEP = text("""
    SELECT l.device_id FROM lanes l
    WHERE l.paused_at IS NULL AND ((l.state = 'asleep' AND EXISTS (
        SELECT FROM broadcast_messages m
        WHERE m.device_id = l.device_id AND ((m.status = 'pending' AND m.scheduled_at < :late) OR m.status = 'claimed')
    )) OR (l.state = 'waiting' AND l.waiting_for = ANY(CAST(:not_for_one_offs AS text[])) AND EXISTS (
        SELECT FROM broadcast_messages m
        WHERE m.device_id = l.device_id AND m.status = 'pending' AND m.source = '!' AND m.scheduled_at < :late
    )))
    LIMIT :most
""")

NOT_FOR_ONE_OFFS = [CAMPAIGN_PAUSED, NEW_CHATS_HELD, NEXT_DUE, QUIET_HOURS]
"""What no lane waits for that knows of a one-off message that is due."""

# Whoever set a lane running may have died before its signal, or Temporal was away: nobody else would signal it again. A lane
# that does run takes no notice.
_SILENT = text("""
    SELECT l.device_id, l.user_id FROM lanes l
    WHERE l.state = 'running' AND l.paused_at IS NULL
        AND greatest(l.last_activity_at, l.next_send_at, l.updated_at) BETWEEN :stuck AND :silent
        AND EXISTS (
            SELECT FROM broadcast_messages m
            WHERE m.device_id = l.device_id AND m.status IN ('pending', 'claimed') AND m.scheduled_at < :silent
        )
    LIMIT :most
""")

# A lane that runs moves its `last_activity_at`; one that waits has an instant, or a signal, to go on at.
_STUCK = text("""
    SELECT l.device_id, l.user_id FROM lanes l
    WHERE l.paused_at IS NULL AND greatest(l.last_activity_at, l.next_send_at, l.updated_at) < :stuck
        AND (l.state = 'running' OR (l.state = 'waiting' AND l.waiting_until_at < :stuck))
        AND EXISTS (
            SELECT FROM broadcast_messages m
            WHERE m.device_id = l.device_id AND m.status IN ('pending', 'claimed') AND m.scheduled_at < :stuck
        )
    LIMIT :most
""")


# A lane that runs waits for a send of its device. Where the device is away, or its host gone, nobody may be left to end that.
_ORPHANED = text("""
    SELECT l.device_id, l.user_id FROM lanes l
    JOIN user_devices d ON d.id = l.device_id
    LEFT JOIN hosts h ON h.id = d.host_id AND h.ended_at IS NULL AND h.expires_at > now()
    WHERE l.state = 'running' AND (h.id IS NULL OR d.status <> 'online')
        AND greatest(l.last_activity_at, l.updated_at, d.offline_since_at) < :silent
    LIMIT :most
""")


class SweepActivities:
    """The one activity of `SweepWorkflow`."""

    def __init__(self, resources: Resources) -> None:
        self._use = resources

    @activity.defn(name="sweep")
    async def sweep(self) -> SweepResult:
        """Nudge forgotten campaigns and retries, wake forgotten lanes, restart stuck ones, end stale claims."""
        now = self._use.clock()
        late = {"late": now - LATE, "yesterday": now - timedelta(days=1)}
        async with self._use.sessions.begin() as session:
            stale = await sweep_stale_claims(session, now)
        async with self._use.sessions.begin() as session:
            await forget_incoming(session, now)
            await prune_deliveries(session, now)
        async with self._use.sessions() as session:
            campaigns = (await session.execute(_CAMPAIGNS, late)).all()
            sequences = await forgotten_sequences(session, now)
            webhooks = await forgotten_webhooks(session, late["late"], most=MOST)
            retries = (await session.execute(_RETRIES, {"late": late["late"]})).all()
            forgotten = {"late": late["late"], "most": MOST, "not_for_one_offs": NOT_FOR_ONE_OFFS}
            asleep: list[UUID] = list((await session.execute(_ASLEEP, forgotten)).scalars())
            silence = {"silent": now - SILENT, "stuck": now - STUCK, "most": MOST}
            silent = (await session.execute(_SILENT, silence)).all()
            stuck = {(lane.device_id, lane.user_id) for lane in (await session.execute(_STUCK, silence))}
            stuck |= {(lane.device_id, lane.user_id) for lane in (await session.execute(_ORPHANED, silence))}
        for campaign in campaigns:
            await nudge_campaign(self._use.client, CampaignInput(campaign.id, campaign.user_id))
        for retry in retries:
            await request_retry(self._use.client, RetryInput(retry.campaign_id, retry.user_id, retry.id))
        for sequence in sequences:
            await nudge_sequence(self._use.client, sequence)
        nudge_webhooks(self._use.client, webhooks)
        activity.heartbeat()
        woken = await wake_lanes(self._use.sessions, self._use.client, self._use.redis, asleep)
        await signal_lanes(self._use.client, [LaneInput(lane.device_id, lane.user_id) for lane in silent])
        await restart_lanes(self._use.client, [LaneInput(*lane) for lane in sorted(stuck)])
        await sweep_imports(self._use)
        return SweepResult(len(campaigns) + len(retries), woken + len(silent) + len(stuck), stale, len(sequences))
