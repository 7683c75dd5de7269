"""Contacts of sequences: many of them are moved on together, each goes on once its part is committed."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from temporalio import activity

from activities.resources import Resources
from siaran.contracts import StepOrder, StepPlan, StepRetry
from siaran.enrollment_steps import move_contacts
from siaran.errors import NotFound
from siaran.lanes import wake_lanes
from siaran.ledger.group_commit import GroupCommit
from siaran.step_retries import carry_out_retry

WAKE_SECONDS = 0.2
"""For how long devices are collected before their lanes are woken: once, however many of their messages were queued."""

BURST = 50
"""So many contacts moved on between two wakes are a burst: then a lane that waits is woken every few seconds only."""

BURST_SECONDS = 4.0

CLOSE_SECONDS = 10.0


class EnrollmentActivities:
    """Database activities of `EnrollmentWorkflow`."""

    def __init__(self, resources: Resources) -> None:
        self._use = resources
        self._steps = GroupCommit[StepOrder, StepPlan | None](self._move)
        self._wakes = GroupCommit[UUID, None](self._wake, interval_seconds=WAKE_SECONDS, retry_seconds=1)
        self._moved = 0
        self._waking: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Write what has been handed in, wake who has got something to send, then stop."""
        await self._steps.close()
        if self._waking:
            await asyncio.wait(self._waking, timeout=CLOSE_SECONDS)
        await self._wakes.close()

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
        self._moved += len(orders)
        for device in moved.devices:
            # Nobody waits for it: a step that is looked at again wakes nobody, and what a kill forgets the sweep finds.
            task = asyncio.create_task(self._wakes.submit(device))
            self._waking.add(task)
            task.add_done_callback(self._waking.discard)
        return [moved.plans.get(order.enrollment_id) for order in orders]

    async def _wake(self, devices: Sequence[UUID]) -> Sequence[None]:
        moved, self._moved = self._moved, 0
        await wake_lanes(self._use.sessions, self._use.client, self._use.redis, devices)
        if moved > BURST:
            await asyncio.sleep(BURST_SECONDS)
        return [None] * len(devices)
