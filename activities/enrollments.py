"""Contacts of sequences: many of them are moved on together, each goes on once its part is committed."""

from collections.abc import Sequence

from temporalio import activity

from activities.resources import Resources
from siaran.contracts import StepOrder, StepPlan, StepRetry
from siaran.enrollment_steps import move_contacts
from siaran.errors import NotFound
from siaran.lanes import wake_lanes
from siaran.ledger.group_commit import GroupCommit
from siaran.step_retries import carry_out_retry


class EnrollmentActivities:
    """Database activities of `EnrollmentWorkflow`."""

    def __init__(self, resources: Resources) -> None:
        self._use = resources
        self._steps = GroupCommit[StepOrder, StepPlan | None](self._move)

    async def close(self) -> None:
        """Write what has been handed in, then stop."""
        await self._steps.close()

    @activity.defn(name="take_step")
    async def take_step(self, order: StepOrder) -> StepPlan:
        """Queue the step of a contact that is due, if one is, and say what comes next; raises `NotFound` for nobody's."""
        plan = await self._steps.submit(order)
        if plan is None:
            raise NotFound("no such contact")
        return plan

    @activity.defn(name="retry_step")
    async def retry_step(self, retry: StepRetry) -> int:
        """Queue a failed step once more, if that has been asked for and not been done; returns how many messages, 0 or 1."""
        async with self._use.sessions.begin() as session:
            device = await carry_out_retry(session, retry, self._use.clock())
        if device is None:
            return 0
        await wake_lanes(self._use.sessions, self._use.client, self._use.redis, [device])
        return 1

    async def _move(self, orders: Sequence[StepOrder]) -> Sequence[StepPlan | None]:
        async with self._use.sessions.begin() as session:
            moved = await move_contacts(session, orders)
        await wake_lanes(self._use.sessions, self._use.client, self._use.redis, moved.devices)
        return [moved.plans.get(order.enrollment_id) for order in orders]
