"""Lanes: what a device's lane does next, and moving its messages while the device is away."""

from uuid import UUID

from temporalio import activity

from activities.resources import Resources
from siaran.campaign_progress import drained_campaigns
from siaran.contracts import CampaignInput, FailoverResult, LaneAction, LaneCheck, LaneInput, LanePlan
from siaran.lane_standing import lane_standing, plan_lane
from siaran.lanes import announce_lanes, wake_lanes
from siaran.ledger.moves import give_up_batch, hold_back_batch, move_batch
from siaran.models import Lane, LaneState
from siaran.temporal import nudge_campaign
from siaran.tenancy import get_owned
from siaran.webhook_events import targets_told
from siaran.webhook_signals import nudge_webhooks

_STATES = {
    LaneAction.SEND: LaneState.RUNNING,
    LaneAction.FAIL_OVER: LaneState.RUNNING,
    LaneAction.WAIT: LaneState.WAITING,
    LaneAction.END: LaneState.ASLEEP,
}


class LaneActivities:
    """Database activities of `DeviceWorkflow`."""

    def __init__(self, resources: Resources) -> None:
        self._use = resources

    @activity.defn(name="plan_lane")
    async def plan_lane(self, check: LaneCheck) -> LanePlan:
        """Decide what a lane does next and note it on its row, in one transaction that holds the row's lock.

        A waker that commits rows later finds the row as it was left here, and signals unless the lane runs.
        """
        now = self._use.clock()
        async with self._use.sessions.begin() as session:
            lane = await get_owned(session, Lane, check.user_id, Lane.device_id == check.device_id, lock=True)
            standing = await lane_standing(session, check.user_id, check.device_id, now)
            plan = plan_lane(standing, check, now, self._use.settings.failover_after)
            lane.state = _STATES[plan.action]
            lane.waiting_for = plan.why if plan.action is LaneAction.WAIT else None
            lane.waiting_until_at = plan.until_at if plan.action is LaneAction.WAIT else None
            finished = await drained_campaigns(session, check.user_id) if plan.action is LaneAction.END else []
        if plan.action is LaneAction.SEND:
            await announce_lanes(self._use.redis, [check.device_id])
        for campaign_id in finished:
            await nudge_campaign(self._use.client, CampaignInput(campaign_id, check.user_id))
        return plan

    @activity.defn(name="fail_over")
    async def fail_over(self, lane: LaneInput) -> FailoverResult:
        """Move a device's pending messages to the owner's other online devices, a batch a transaction, and wake those lanes.

        What only this device may send stays, unless the device was removed: then it fails, with that as its reason. A device
        that is there, but may open no new chats (463), gives away what would open one, and puts off what nobody else can send.
        """
        moved = 0
        targets: set[UUID] = set()
        while True:
            now = self._use.clock()
            async with self._use.sessions.begin() as session:
                standing = await lane_standing(session, lane.user_id, lane.device_id, now)
                new_chats_only = standing.is_connected and standing.is_restricted(now)
                if standing.is_connected and not new_chats_only:
                    # It has come back meanwhile: what is left it sends itself.
                    return FailoverResult(moved, len(targets))
                ended = await give_up_batch(session, lane.user_id, lane.device_id, now)
                batch = await move_batch(session, lane.user_id, lane.device_id, now, new_chats_only=new_chats_only)
                if new_chats_only and not batch:
                    ended = await hold_back_batch(session, lane.user_id, lane.device_id, now)
            nudge_webhooks(self._use.client, targets_told(session))
            if not batch and not ended:
                return FailoverResult(moved, len(targets))
            moved += sum(batch.values())
            targets |= set(batch)
            activity.heartbeat(moved)
            await wake_lanes(self._use.sessions, self._use.client, self._use.redis, batch)
