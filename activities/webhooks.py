"""Deliveries to webhooks: one round for one address, bounded in time, several requests side by side."""

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from temporalio import activity

from activities.resources import Resources
from siaran.contracts import WebhookInput, WebhookReach, WebhookRound
from siaran.ledger.group_commit import GroupCommit
from siaran.models import DeliveryStatus
from siaran.webhook_outbox import (
    GONE,
    NEVER_UP,
    Address,
    Due,
    Outcome,
    due_deliveries,
    end_pending,
    find_address,
    next_due_at,
    record_outcomes,
    switch_off,
    try_all_again,
)
from siaran.webhook_posts import SIDE_BY_SIDE, Receiver, headers_of, open_receiver
from siaran.webhook_retries import GIVE_UP_AFTER, Answer, after_failure, asked_to_wait, is_down, next_try
from siaran.webhook_retries import GONE as ANSWERED_GONE

ROUND_SECONDS = 20.0
"""How long a round begins deliveries, before it makes room for others."""

LOOK_SECONDS = 1.0
"""How long what has come meanwhile waits for a look while requests are under way."""

READ_AHEAD = 64

MOST_UNRECORDED = 400
"""Answers that wait for the next group commit before no more deliveries begin: a killed worker's are made once more."""

RETRY_SECONDS = 0.5


class WebhookActivities:
    """The activity of `WebhookWorkflow`; outcomes of all addresses are written together. Close it at the end."""

    def __init__(self, resources: Resources) -> None:
        self._use = resources
        self._outcomes = GroupCommit[Outcome, None](self._write, retry_seconds=RETRY_SECONDS)

    @activity.defn(name="deliver_webhooks")
    async def deliver_webhooks(self, order: WebhookInput) -> WebhookRound:
        """Make the deliveries that are due for an address, until none is or it is down; says when the next one is.

        Each is made at least once: of a round that dies, those under way are made again, under the same ids.
        """
        use = self._use
        async with use.sessions() as session:
            address, reason = await find_address(session, order, use.settings)
        if address is None:
            return WebhookRound(0, await self._end_all(order, reason), WebhookReach())
        async with open_receiver(address.url, allow_private=use.settings.allow_private_targets) as receiver:
            here = _Round(use, order, address, receiver, self._outcomes)
            await here.run()
        if here.is_gone:
            here.failed += await self._end_all(order, GONE)
        elif is_down(here.reach):
            here.failed += await self._end_all(order, NEVER_UP, older_than=GIVE_UP_AFTER)
        async with use.sessions() as session:
            next_at = await next_due_at(session, order)
        return WebhookRound(here.delivered, here.failed, here.reach, next_at)

    async def close(self) -> None:
        """Write the outcomes that have been handed in."""
        await self._outcomes.close()

    async def _write(self, outcomes: Sequence[Outcome]) -> Sequence[None]:
        async with self._use.sessions.begin() as session:
            await record_outcomes(session, outcomes)
        return [None] * len(outcomes)

    async def _end_all(self, order: WebhookInput, reason: str, *, older_than: timedelta | None = None) -> int:
        """Give up what is pending for the address, or what of it has become too old."""
        ended = 0
        while True:
            now = self._use.clock()
            before = None if older_than is None else now - older_than
            async with self._use.sessions.begin() as session:
                batch = await end_pending(session, order, reason, now, before=before)
            ended += batch
            activity.heartbeat(ended)
            if not batch:
                return ended


@dataclass(slots=True)
class _Round:
    """One round of deliveries to one address."""

    use: Resources
    order: WebhookInput
    address: Address
    receiver: Receiver
    outcomes: GroupCommit[Outcome, None]
    reach: WebhookReach = field(init=False)
    delivered: int = 0
    failed: int = 0
    is_gone: bool = False
    has_moved: bool = False
    _flight: dict[asyncio.Task[None], int] = field(default_factory=dict)
    _recording: dict[asyncio.Task[None], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reach = WebhookReach(self.order.reach.failing, self.order.reach.holds)

    async def run(self) -> None:
        """Deliver until nothing is due, the address is to be left alone, or the time is up."""
        ends_at = asyncio.get_running_loop().time() + ROUND_SECONDS
        waiting: deque[Due] = deque()
        try:
            while True:
                width = self._width() if asyncio.get_running_loop().time() < ends_at else 0
                if len(self._flight) < width and not waiting:
                    waiting.extend(await self._read())
                while waiting and len(self._flight) < width:
                    due = waiting.popleft()
                    self._flight[asyncio.create_task(self._deliver(due))] = due.id
                tasks = {**self._flight, **self._recording}
                if not tasks:
                    return
                done, _ = await asyncio.wait(tasks, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    self._flight.pop(task, None)
                    self._recording.pop(task, None)
                    task.result()
                activity.heartbeat()
        finally:
            for task in self._flight:
                task.cancel()
            await asyncio.gather(*self._flight, return_exceptions=True)

    def _width(self) -> int:
        """How many requests there may be side by side."""
        is_over = self.is_gone or self.has_moved or activity.is_worker_shutdown()
        if is_over or self.reach.held_until_at is not None or len(self._recording) >= MOST_UNRECORDED:
            return 0
        return 1 if is_down(self.reach) else SIDE_BY_SIDE

    async def _read(self) -> list[Due]:
        """What is due, unless the webhook has changed since the round began: then the next round goes on."""
        now = self.use.clock()
        async with self.use.sessions() as session:
            address, _ = await find_address(session, self.order, self.use.settings)
            self.has_moved = address != self.address
            if self.has_moved:
                return []
            under_way = [*self._flight.values(), *self._recording.values()]
            return await due_deliveries(session, self.order, now, under_way=under_way, limit=READ_AHEAD)

    async def _deliver(self, due: Due) -> None:
        headers = headers_of(due.event, due.id, due.body, self.address.secret)
        answer = await self.receiver.post(due.body, headers)
        if answer.is_success:
            await self._succeed(due, answer)
        else:
            await self._fail(due, answer)

    async def _succeed(self, due: Due, answer: Answer) -> None:
        was_down = is_down(self.reach)
        self.reach = WebhookReach(held_until_at=self.reach.held_until_at)
        self.delivered += 1
        self._record(due, DeliveryStatus.DELIVERED, answer)
        if was_down:  # the delays of those that met it while it was down say nothing about them
            async with self.use.sessions.begin() as session:
                await try_all_again(session, self.order.user_id, self.order.target)

    async def _fail(self, due: Due, answer: Answer) -> None:
        now = self.use.clock()
        wait = asked_to_wait(answer, now)
        self.reach = after_failure(self.reach, due.id, now, random.random, wait)
        if answer.status_code == ANSWERED_GONE:
            await self._leave(due, answer)
            return
        try_at = next_try(due.tries + 1, now, random.random, wait)
        status = DeliveryStatus.FAILED if try_at is None else DeliveryStatus.PENDING
        self.failed += try_at is None
        self._record(due, status, answer, try_at)

    async def _leave(self, due: Due, answer: Answer) -> None:
        """The address is gone for good: an own webhook is switched off; one of the installation's is the operator's matter."""
        self.failed += 1
        self._record(due, DeliveryStatus.FAILED, answer)
        if self.address.webhook_id is not None:
            self.is_gone = True
            async with self.use.sessions.begin() as session:
                await switch_off(session, self.order.user_id, self.address.webhook_id)

    def _record(self, due: Due, status: DeliveryStatus, answer: Answer, try_at: datetime | None = None) -> None:
        """Have the outcome written with others'; the next delivery does not wait for it."""
        outcome = Outcome(due.id, self.order.user_id, due.tries, status, answer, self.use.clock(), try_at)
        self._recording[asyncio.create_task(self.outcomes.submit(outcome))] = due.id
