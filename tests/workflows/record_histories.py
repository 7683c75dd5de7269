"""Records the histories that `test_replay.py` replays: `python -m tests.workflows.record_histories [kind …]`."""

import asyncio
import contextlib
import io
import json
import re
import sys
from collections import Counter
from datetime import time, timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from redis.asyncio import Redis
from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowHistory,
)

from siaran.contracts import CampaignInput, LeadImportInput, WebhookInput, import_workflow_id, webhook_workflow_id
from siaran.db import open_database
from siaran.embedded.options import StackOptions
from siaran.embedded.stack import EmbeddedStack
from siaran.lead_import_starts import start_import
from siaran.lead_imports import ImportOrder, add_import
from siaran.models import Campaign, CampaignStatus
from siaran.settings import Settings
from siaran.temporal import connect, nudge_campaign
from siaran.webhook_events import Announcement, WebhookEvent, announce
from siaran.webhook_posts import SIDE_BY_SIDE
from siaran.webhook_signals import signal_webhook
from siaran.webhooks import WebhookChanges, add_webhook, delete_webhook, list_webhooks
from tests.conftest import stack_folder
from tests.lead_files import ManyLeads
from tests.servers import TestServers
from tests.webhook_receivers import Reply, webhook_receiver
from tests.workflows.house import House, open_house
from tests.workflows.skipped_time import Days
from tests.workflows.walks import Walks

HISTORIES = Path(__file__).with_name("histories")
PROCESS = re.compile(r"\d+@[\w.-]+")
TEXT = "Grand opening, dear {{name}}"
WALKS = {"sequence", "enrollment"}
"""Kinds for which days have to pass."""

ENDED = {
    WorkflowExecutionStatus.COMPLETED,
    WorkflowExecutionStatus.CANCELED,
    WorkflowExecutionStatus.CONTINUED_AS_NEW,
}


async def record(kinds: set[str]) -> None:
    """Start servers of our own, let campaigns go out and leads come in, and write down executions that have ended.

    Of these `kinds` only, such as `campaign`, or of all.
    """
    options = StackOptions(postgres_fsync=False, temporal_time_skipping=True).with_free_ports()
    with stack_folder() as folder:
        async with EmbeddedStack(Settings(data_dir=folder), options) as stack:
            servers = TestServers(stack)
            await servers.create_template()
            url = SecretStr(servers.database_url(await servers.create_database()))
            settings = stack.settings.model_copy(
                update={
                    "database_url": url,
                    "temporal_namespace": await servers.create_namespace(),
                    "allow_private_targets": True,  # the receivers of webhooks are on this machine
                }
            )
            client = await connect(settings)
            if not kinds or kinds - WALKS:
                async with (
                    open_database(settings) as sessions,
                    Redis.from_url(settings.redis_dsn, decode_responses=True) as redis,
                    open_house(settings, sessions, redis, client, devices=3, leads=9) as house,
                ):
                    await come_in(house)
                    await go_out(house)
                    await tell(house)
            if not kinds or kinds & WALKS:
                url = SecretStr(servers.database_url(await servers.create_database()))
                await record_walks(settings.model_copy(update={"database_url": url}), client, folder / "offset")
            await write_down(client, kinds)


async def record_walks(settings: Settings, client: Client, offset: Path) -> None:
    """Let days pass for a house of its own."""
    days = Days.beginning(client, offset)
    async with (
        open_database(settings) as sessions,
        Redis.from_url(settings.redis_dsn, decode_responses=True) as redis,
        open_house(settings, sessions, redis, days.client, devices=2, leads=0, clock=days.clock) as house,
    ):
        await walk(Walks(house, days))


async def come_in(house: House) -> None:
    """An import that ends by itself, and one that an operator cancels."""
    await (await _begin_import(house, 3_000)).result()
    cancelled = await _begin_import(house, 100_000)
    await asyncio.sleep(1)
    await cancelled.cancel()
    with contextlib.suppress(WorkflowFailureError):
        await cancelled.result()


async def _begin_import(house: House, rows: int) -> WorkflowHandle[Any, Any]:
    use, user = house.resources, house.ledger.user
    file = io.BytesIO(ManyLeads(rows).content.encode())
    async with use.sessions.begin() as session:
        order = ImportOrder(country="MY", file_name="leads.csv", is_dry_run=True)
        row = await add_import(session, user.id, order, file, use.clock())
    await start_import(use.client, LeadImportInput(row.id, user.id))
    return use.client.get_workflow_handle(import_workflow_id(row.id))


async def go_out(house: House) -> None:
    """Everything that a campaign and a lane can meet: gaps, a pause, failover, failures, a retry, a cancellation."""
    await house.network.configure(failure_rate=0.4, seed=5)
    first = await house.campaign(message=TEXT, min_delay_seconds=1, max_delay_seconds=1)
    await asyncio.sleep(0.5)
    await _set_status(house, first, CampaignStatus.PAUSED)
    await asyncio.sleep(2)
    await house.network.drop(house.devices[0].id)
    await _set_status(house, first, CampaignStatus.SENDING)
    await house.end_of(first)
    await house.network.configure(failure_rate=0)
    await house.retry(first)
    await house.end_of(first)
    second = await house.campaign(message=TEXT, min_delay_seconds=5, max_delay_seconds=5)
    await asyncio.sleep(1.5)
    await _set_status(house, second, CampaignStatus.CANCELLED)
    await house.end_of(second)
    await house.network.restore(house.devices[0].id)
    await asyncio.sleep(7)


async def tell(house: House) -> None:
    """A webhook whose receiver fails once, one that is down until its owner has it tried again, and one that goes away."""
    for statuses, texts in (([500], 1), ([500] * SIDE_BY_SIDE, 12), ([410], 3)):
        async with webhook_receiver() as receiver:
            failures = iter(statuses)
            receiver.reply = lambda _, left=failures: Reply(next(left, 200))  # type: ignore[misc]  # bound at once
            order = await _webhook(house, receiver.url)
            news = [Announcement(order.user_id, WebhookEvent.MESSAGE, {"message": TEXT})] * texts
            async with house.resources.sessions.begin() as session:
                await announce(session, news)
            await signal_webhook(house.resources.client, order)
            if texts > SIDE_BY_SIDE:
                await asyncio.sleep(3)
                await signal_webhook(house.resources.client, order, "changed")
            await house.resources.client.get_workflow_handle(webhook_workflow_id(order.target)).result()


async def _webhook(house: House, url: str) -> WebhookInput:
    user = house.ledger.user
    async with house.resources.sessions.begin() as session:
        for old in await list_webhooks(session, user.id, limit=10):
            await delete_webhook(session, user.id, old.id, house.resources.clock())
        new = await add_webhook(session, user.id, WebhookChanges(url, [WebhookEvent.MESSAGE], True))
    return WebhookInput(user.id, str(new.id))


async def walk(walks: Walks) -> None:
    """A walk of ten days, with a pause, a step that fails and is sent again, and sequences that are deleted."""
    sequence = await walks.sequence(dict.fromkeys(range(1, 11), time(9)), niche="WALK")
    await walks.enroll(sequence, 1, niche="WALK")
    await walks.until(walks.now + timedelta(days=2))
    await walks.pause(sequence)
    await walks.skip(timedelta(days=2))
    await walks.resume(sequence)
    await walks.house.network.configure(failure_rate=1, failure_codes={"server_error_500": 1})
    await walks.until(walks.now + timedelta(days=1))
    await walks.house.network.configure(failure_rate=0)
    await walks.retry(sequence)
    await walks.until()
    await walks.delete(sequence)
    gone = await walks.sequence({1: time(9), 30: time(9)}, niche="GONE")
    await walks.enroll(gone, 1, niche="GONE")
    await walks.until(walks.now + timedelta(days=2))
    await walks.delete(gone)
    await asyncio.sleep(3)


async def _set_status(house: House, campaign: Campaign, status: CampaignStatus) -> None:
    async with house.resources.sessions.begin() as session:
        (await session.get_one(Campaign, campaign.id)).status = status
    await nudge_campaign(house.resources.client, CampaignInput(campaign.id, campaign.user_id))


async def write_down(client: Client, kinds: set[str]) -> None:
    """Replace the recorded histories by those of this namespace."""
    for old in HISTORIES.glob("*.json"):
        if not kinds or old.stem.partition("-")[0] in kinds:
            old.unlink()
    ended = [one async for one in client.list_workflows() if one.status in ENDED]
    numbers: Counter[str] = Counter()
    for execution in sorted(ended, key=lambda one: one.start_time):
        kind = execution.workflow_type.removesuffix("Workflow").lower()
        if kinds and kind not in kinds:
            continue
        numbers[kind] += 1
        events = [json.dumps(event, separators=(",", ":")) for event in await _events(client, execution)]
        lines = '{"events":[\n' + ",\n".join(events) + "\n]}\n"
        (HISTORIES / f"{kind}-{numbers[kind]}.json").write_text(lines)


async def _events(client: Client, execution: WorkflowExecution) -> list[Any]:
    """The events of an execution, without the names of the machine and processes that recorded them."""
    handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
    history: WorkflowHistory = await handle.fetch_history()
    events: list[Any] = json.loads(PROCESS.sub("recorded", history.to_json()))["events"]
    return events


if __name__ == "__main__":
    asyncio.run(record(set(sys.argv[1:])))
