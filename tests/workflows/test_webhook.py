"""Webhooks from end to end: events that survive restarts, receivers that hang, and addresses that are down."""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import func, select, text
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle

from activities.resources import Resources
from siaran.clock import system_clock
from siaran.contracts import WebhookInput, webhook_workflow_id
from siaran.db import SessionMaker
from siaran.models import DeliveryStatus, User, Webhook, WebhookDelivery
from siaran.settings import Settings
from siaran.webhook_events import Announcement, WebhookEvent, announce, targets_told
from siaran.webhook_posts import SIDE_BY_SIDE
from siaran.webhook_signals import nudge_webhooks, signal_webhook
from siaran.webhooks import WebhookChanges, add_webhook
from tests.factories import add_user
from tests.waiting import eventually
from tests.webhook_receivers import Reply, WebhookReceiver, webhook_receiver
from tests.workflows.test_replay import strings
from worker.__main__ import work


class Teller:
    """A user whose things happen, with webhooks."""

    def __init__(self, resources: Resources) -> None:
        self.use = resources
        self.user: User

    async def open(self) -> None:
        async with self.use.sessions.begin() as session:
            self.user = await add_user(session)

    async def webhook(self, receiver: WebhookReceiver) -> Webhook:
        """A webhook at a receiver."""
        async with self.use.sessions.begin() as session:
            return await add_webhook(session, self.user.id, WebhookChanges(receiver.url, [WebhookEvent.MESSAGE], True))

    async def tell(self, *texts: str) -> None:
        """Have messages come in, as a host or an activity does."""
        news = [Announcement(self.user.id, WebhookEvent.MESSAGE, {"from": "60123456789", "message": one}) for one in texts]
        async with self.use.sessions.begin() as session:
            await announce(session, news)
        nudge_webhooks(self.use.client, targets_told(session))

    def workflow(self, webhook: Webhook) -> WorkflowHandle[Any, Any]:
        """The workflow that delivers to it."""
        return self.use.client.get_workflow_handle(webhook_workflow_id(str(webhook.id)))

    async def count(self, status: DeliveryStatus) -> int:
        """How many deliveries stand so."""
        query = select(func.count()).select_from(WebhookDelivery).where(WebhookDelivery.status == status)
        async with self.use.sessions() as session:
            return (await session.execute(query)).scalar_one()

    async def all_delivered(self, number: int, *, within: float = 30) -> None:
        """Return once so many are delivered."""

        async def are_delivered() -> bool:
            return await self.count(DeliveryStatus.DELIVERED) == number

        await eventually(are_delivered, within=within)


@pytest.fixture
async def teller(settings: Settings, sessions: SessionMaker, redis: Redis, temporal_client: Client) -> Teller:
    settings = settings.model_copy(update={"allow_private_targets": True})
    teller = Teller(Resources(settings, sessions, redis, temporal_client, system_clock))
    await teller.open()
    return teller


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookReceiver]:
    async with webhook_receiver() as receiver:
        yield receiver


@asynccontextmanager
async def hanging(number: int, teller: Teller) -> AsyncIterator[list[WebhookReceiver]]:
    """Receivers, each with a webhook, that never answer."""
    async with webhook_receiver() as first, webhook_receiver() as second:
        receivers = [first, second][:number]
        for receiver in receivers:
            receiver.never()
            await teller.webhook(receiver)
        yield receivers


async def test_events_are_delivered_and_the_workflow_ends(teller: Teller, receiver: WebhookReceiver) -> None:
    webhook = await teller.webhook(receiver)
    async with work(teller.use):
        await teller.tell("one", "two")
        await teller.all_delivered(2)
        assert await teller.workflow(webhook).result() == f"2 delivered to {webhook.id}"

        await asyncio.sleep(1.1)  # beyond the pause between two signals
        await teller.tell("three")
        await teller.all_delivered(3)
    assert sorted(data["message"] for data in receiver.data) == ["one", "three", "two"]
    assert receiver.events == ["message"] * 3


async def test_receivers_that_hang_delay_no_other(teller: Teller, receiver: WebhookReceiver) -> None:
    async with work(teller.use), hanging(2, teller) as stuck:
        await teller.tell(*(str(number) for number in range(20)))
        for one in stuck:
            await one.has_got(1)
        await teller.webhook(receiver)
        began = asyncio.get_running_loop().time()
        await teller.tell("quick")
        await receiver.has_got(1, within=3)
        assert asyncio.get_running_loop().time() - began < 3
    assert receiver.data[0]["message"] == "quick"


async def test_what_is_queued_survives_a_worker_that_is_killed_in_mid_request(
    teller: Teller, receiver: WebhookReceiver
) -> None:
    await teller.webhook(receiver)
    receiver.never()
    await teller.tell(*(f"message {number}" for number in range(30)))
    async with worker_process(teller.use.settings) as process:
        await receiver.has_got(SIDE_BY_SIDE, within=30)
        process.kill()
        await process.wait()
    assert await teller.count(DeliveryStatus.PENDING) == 30
    under_way = {request.delivery for request in receiver.got}
    receiver.always(200)
    receiver.got.clear()

    async with work(teller.use):
        await teller.all_delivered(30, within=60)

    numbers = [request.delivery for request in receiver.got]
    assert len(numbers) == len(set(numbers)) == 30
    assert under_way <= set(numbers), "those that were under way come again under their old numbers"


@asynccontextmanager
async def worker_process(settings: Settings) -> AsyncIterator[Process]:
    """A worker in a process of its own, which may be killed."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    environment = {
        **os.environ,
        "DB_URI": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "TEMPORAL_ADDRESS": settings.temporal_address or "",
        "TEMPORAL_NAMESPACE": settings.temporal_namespace,
        "SIARAN_ALLOW_PRIVATE_TARGETS": "true",
        "SIARAN_DATA_DIR": str(settings.data_dir),
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "worker", env=environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_events_that_came_while_no_worker_ran_are_delivered_by_the_next(
    teller: Teller, receiver: WebhookReceiver
) -> None:
    await teller.webhook(receiver)
    await teller.tell("one")
    assert receiver.got == []
    async with work(teller.use):
        await teller.all_delivered(1)


async def test_a_500_is_tried_again_by_a_durable_timer(teller: Teller, receiver: WebhookReceiver) -> None:
    webhook = await teller.webhook(receiver)
    receiver.always(500)
    async with work(teller.use):
        await teller.tell("one")
        await receiver.has_got(1)

        async def waits() -> bool:
            history = await teller.workflow(webhook).fetch_history()
            return any(event.HasField("timer_started_event_attributes") for event in history.events)

        await eventually(waits)
        assert await teller.count(DeliveryStatus.PENDING) == 1
    receiver.always(200)
    async with work(teller.use):
        await receiver.has_got(2, within=25)
        await teller.all_delivered(1)
    first, second = receiver.got
    assert (first.delivery, first.body) == (second.delivery, second.body)


async def test_an_address_that_is_down_is_left_alone_whatever_is_written_for_it(
    teller: Teller, receiver: WebhookReceiver
) -> None:
    webhook = await teller.webhook(receiver)
    receiver.always(500)
    async with work(teller.use):
        await teller.tell(*(str(number) for number in range(20)))

        async def is_held() -> bool:
            if not receiver.got:
                return False
            description = await teller.workflow(webhook).describe()
            return "the address is down" in str(description.typed_search_attributes)

        await eventually(is_held)
        tried = len(receiver.got)
        for number in range(3):
            await teller.tell(f"more {number}")
            await asyncio.sleep(1.2)
        assert len(receiver.got) <= tried + 1
        receiver.always(200)
        assert await signal_webhook(teller.use.client, WebhookInput(teller.user.id, str(webhook.id)), "changed")
        await receiver.has_got(tried + 15, within=8)


async def test_a_workflow_s_history_holds_ids_alone(teller: Teller, receiver: WebhookReceiver) -> None:
    webhook = await teller.webhook(receiver)
    receiver.reply = lambda request: Reply(200, {}, b"thanks for " + request.body)
    async with work(teller.use):
        await teller.tell("a text that nobody else may read")
        await teller.all_delivered(1)
        await teller.workflow(webhook).result()
    description = await teller.workflow(webhook).describe()
    assert description.status is WorkflowExecutionStatus.COMPLETED
    history = await teller.workflow(webhook).fetch_history()
    found = [one for event in history.events for one in strings(event)]
    assert any(str(webhook.id) in one for one in found)
    for secret in ("a text", "60123456789", receiver.url, webhook.secret, "thanks"):
        assert not any(secret in one for one in found)


async def test_an_address_that_is_down_stays_so_in_the_run_that_goes_on(teller: Teller, receiver: WebhookReceiver) -> None:
    webhook = await teller.webhook(receiver)
    receiver.always(503, Retry_After="600")
    async with work(teller.use):
        await teller.tell("one")
        await receiver.has_got(1)
        workflow = teller.workflow(webhook)
        first = (await workflow.describe()).run_id
        for _ in range(42):
            await asyncio.gather(*(workflow.signal("news") for _ in range(100)))

        async def is_another_run() -> bool:
            return (await workflow.describe()).run_id != first

        await eventually(is_another_run)
        await workflow.signal("news")
        await asyncio.sleep(1)
    assert len(receiver.got) == 1


async def test_many_signals_become_few(teller: Teller, receiver: WebhookReceiver) -> None:
    webhook = await teller.webhook(receiver)
    for number in range(50):
        await teller.tell(str(number))
    await asyncio.sleep(1.5)
    history = await teller.workflow(webhook).fetch_history()
    signals = [event for event in history.events if event.HasField("workflow_execution_signaled_event_attributes")]
    assert 1 <= len(signals) <= 3
    async with work(teller.use):
        await teller.all_delivered(50)


async def test_without_temporal_nobody_waits_and_the_sweep_finds_it(teller: Teller, receiver: WebhookReceiver) -> None:
    await teller.webhook(receiver)
    nowhere = await Client.connect("127.0.0.1:1", lazy=True)
    async with teller.use.sessions.begin() as session:
        await announce(session, [Announcement(teller.user.id, WebhookEvent.MESSAGE, {"message": "one"})])
    began = asyncio.get_running_loop().time()
    nudge_webhooks(nowhere, targets_told(session))
    assert asyncio.get_running_loop().time() - began < 0.1
    async with teller.use.sessions.begin() as session:
        await session.execute(text("UPDATE webhook_deliveries SET try_at = now() - interval '5 minutes'"))
    async with work(teller.use):
        await teller.use.client.execute_workflow("SweepWorkflow", id="sweep-now", task_queue="siaran")
        await receiver.has_got(1)
