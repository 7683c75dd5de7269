"""One clock for workflows, hosts and SQL alike, in any number of processes, that a test sets forward by days.

The clock is the machine's plus an offset that stands in a file. Workflows that are started through its client catch up with it
as soon as they wait; `Days.skip` sets it forward and takes the open ones along.
"""

import asyncio
import os
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import TimeSkipper, TimeSkippingConfig

# The only way to tell a workflow at its start how far it shall skip; the package exports the configuration without its part.
from temporalio.testing._timeskipping import FastForwardConfig

from siaran.schedule import to_instant, zone_of

CLOSE = timedelta(milliseconds=10)
BUSY_SECONDS = 10.0

ZONE = "America/New_York"
"""The zone of these tests, in which the clocks change."""


def change_of_clocks() -> date:
    """The next day, some days from now, on which summer time begins in the zone of these tests."""
    zone = zone_of(ZONE)
    day = datetime.now(UTC).date() + timedelta(days=20)
    while True:
        before, after = (datetime(one.year, one.month, one.day, 12, tzinfo=zone) for one in (day - timedelta(days=1), day))
        if (after.utcoffset() or timedelta()) > (before.utcoffset() or timedelta()):
            return day
        day += timedelta(days=1)


BEGIN = change_of_clocks() - timedelta(days=4)
"""When the first walk of a test begins: four days before summer time does."""


class OffsetClock:
    """The machine's clock, set forward by as many seconds as a file says."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def offset(self) -> timedelta:
        """How far it has been set forward."""
        return timedelta(seconds=float(self._path.read_text()))

    def set(self, offset: timedelta) -> None:
        """Set it forward for everyone who reads the file, who sees the old value or the new one."""
        new = self._path.with_suffix(f".{os.getpid()}")
        new.write_text(str(offset.total_seconds()))
        new.rename(self._path)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset


class Skipper(TimeSkipper):
    """Workflows that are started through its client skip the clock's offset, and no more."""

    def __init__(self, client: Client, clock: OffsetClock) -> None:
        self._clock = clock
        super().__init__(client)

    @property
    def config(self) -> TimeSkippingConfig:
        """What the next workflow is started with."""
        return TimeSkippingConfig(fast_forward_config=FastForwardConfig(uuid4().hex, self._clock.offset))

    @config.setter
    def config(self, value: TimeSkippingConfig) -> None:
        raise NotImplementedError


class Days:
    """Sets the clock forward, and open workflows with it."""

    def __init__(self, client: Client, clock: OffsetClock) -> None:
        self.clock = clock
        self._skipper = Skipper(client, clock)

    @classmethod
    def beginning(cls, client: Client, path: Path) -> "Days":
        """The clock stands at seven in the morning of `BEGIN`."""
        clock = OffsetClock(path)
        clock.set(to_instant(BEGIN, time(7), ZONE) - datetime.now(UTC))
        return cls(client, clock)

    @property
    def client(self) -> Client:
        """A client whose workflows follow the clock."""
        return self._skipper.client

    async def skip(self, by: timedelta, workflow_ids: Iterable[str]) -> None:
        """Let so much time pass; `workflow_ids` are those of all workflows that may be open."""
        self.clock.set(self.clock.offset + by)
        gate = asyncio.Semaphore(8)

        async def follow(workflow_id: str) -> None:
            async with gate:
                await self._take_along(self.client.get_workflow_handle(workflow_id))

        await asyncio.gather(*(follow(workflow_id) for workflow_id in workflow_ids))

    async def _take_along(self, workflow: WorkflowHandle[Any, Any]) -> None:
        """Set a workflow's own clock to ours, however far behind it is: it may have been started while ours was set.

        One that is busy follows later, with the next skip: its worker may have been killed. An execution's clock stands while
        an activity is pending; one that the execution has given up, and whose host was killed, would be so until its time-out.
        """
        try:
            behind = self.clock() - await self._skipper.get_current_time(workflow)
            if behind > CLOSE:
                try:
                    async with asyncio.timeout(BUSY_SECONDS):
                        await self._skipper.fast_forward(workflow, behind)
                except TimeoutError:
                    await self._end_given_up(workflow)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise

    async def _end_given_up(self, workflow: WorkflowHandle[Any, Any]) -> None:
        description = (await workflow.describe()).raw_description
        for pending in description.pending_activities:
            if pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED:
                activity = self.client.get_async_activity_handle(
                    workflow_id=workflow.id,
                    run_id=description.workflow_execution_info.execution.run_id,
                    activity_id=pending.activity_id,
                )
                await activity.report_cancellation()
