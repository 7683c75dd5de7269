"""Sending again what failed: counted once, asked for once, refused where it makes no sense."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient
from sqlalchemy import select, update

from siaran.db import SessionMaker
from siaran.models import BroadcastMessage, CampaignRetry
from tests.api.campaign_rows import Row, add_device, add_messages, create, put_under_way, set_campaign, user_id_of
from tests.api.conftest import MovableClock, register


@pytest.fixture
async def client(api):
    return await register(api)


@pytest.fixture
async def campaign(client, sessions):
    """A campaign that has ended."""
    created = await create(client)
    await put_under_way(sessions, created["id"], "sent")
    return created


@pytest.fixture
async def device(client, sessions):
    return await add_device(sessions, await user_id_of(sessions))


async def retry(client: AsyncClient, campaign: Row, where: str = "", **options: Any) -> int:
    answer = await client.post(
        f"/api/campaigns/{campaign['id']}{where}/retry{'' if 'messages' in where else '-failed'}", **options
    )
    assert answer.status_code == 200, answer.text
    retried: int = answer.json()["results"]["retried"]
    assert answer.json()["message"] == f"Successfully queued {retried} messages for retry"
    return retried


async def refusal(client: AsyncClient, campaign: Row, where: str = "", **options: Any) -> str:
    answer = await client.post(
        f"/api/campaigns/{campaign['id']}{where}/retry{'' if 'messages' in where else '-failed'}", **options
    )
    assert answer.status_code == 409, answer.text
    return str(answer.json()["detail"])


async def requests(sessions: SessionMaker) -> list[CampaignRetry]:
    async with sessions() as session:
        return list(await session.scalars(select(CampaignRetry).order_by(CampaignRetry.requested_at)))


async def carry_out(sessions: SessionMaker, clock: MovableClock) -> None:
    """What the campaign's workflow does with the open requests."""
    async with sessions.begin() as session:
        await session.execute(update(CampaignRetry).values(done_at=clock()))
        await session.execute(
            update(BroadcastMessage)
            .where(BroadcastMessage.status == "failed", BroadcastMessage.is_retryable)
            .values(status="pending", is_retryable=False)
        )


async def test_all_that_failed_and_can_be_retried_is_queued_by_a_signal(client, campaign, device, sessions, temporal_client):
    await add_messages(
        sessions, campaign, device, ["failed", "failed", "sent", "pending", "unknown", "suppressed", "cancelled"]
    )
    await add_messages(sessions, campaign, device, ["failed"], is_retryable=False)
    assert await retry(client, campaign) == 2
    [request] = await requests(sessions)
    assert (request.campaign_id, request.device_id, request.message_id) == (campaign["id"], None, None)
    assert (request.user_id, request.requested_by, request.done_at) == (UUID(campaign["user_id"]),) * 2 + (None,)
    handle = temporal_client.get_workflow_handle(f"campaign:{campaign['id']}")
    signals = [
        event.workflow_execution_signaled_event_attributes.signal_name
        async for event in handle.fetch_history_events()
        if event.HasField("workflow_execution_signaled_event_attributes")
    ]
    assert "retry_failed" in signals


async def test_two_clicks_count_once(client, campaign, device, sessions):
    await add_messages(sessions, campaign, device, ["failed"] * 3)
    assert await retry(client, campaign) == 3
    assert await retry(client, campaign) == 0
    assert len(await requests(sessions)) == 1


async def test_clicks_at_the_same_moment_count_once(client, campaign, device, sessions):
    await add_messages(sessions, campaign, device, ["failed"] * 3)
    where = f"/device/{device}"
    counted = await asyncio.gather(*(retry(client, campaign, place) for place in ("", where, "", where)))
    assert sum(counted) == 3


async def test_nothing_to_retry_asks_for_nothing(client, campaign, device, sessions):
    await add_messages(sessions, campaign, device, ["sent", "unknown"])
    assert await retry(client, campaign) == 0
    assert await requests(sessions) == []


async def test_a_device_is_retried_alone_and_the_rest_counts_without_it(client, campaign, device, sessions):
    second = await add_device(sessions, UUID(campaign["user_id"]), "second")
    await add_messages(sessions, campaign, device, ["failed"] * 2)
    await add_messages(sessions, campaign, second, ["failed"] * 3)
    assert await retry(client, campaign, f"/device/{device}") == 2
    assert await retry(client, campaign) == 3
    assert await retry(client, campaign, f"/device/{second}") == 0
    assert [request.device_id for request in await requests(sessions)] == [device, None]


async def test_what_fails_again_after_a_retry_can_be_retried_again(client, campaign, device, sessions, clock):
    messages = await add_messages(sessions, campaign, device, ["failed"] * 2)
    assert await retry(client, campaign) == 2
    await carry_out(sessions, clock)
    assert await retry(client, campaign) == 0
    async with sessions.begin() as session:
        failed_again = update(BroadcastMessage).where(BroadcastMessage.id == messages[0])
        await session.execute(failed_again.values(status="failed", is_retryable=True, claimed_at=clock()))
    clock.advance(timedelta(seconds=5))
    assert await retry(client, campaign) == 1


async def test_what_fails_again_while_a_request_is_still_open_is_not_taken_for_queued(
    client, campaign, device, sessions, clock
):
    messages = await add_messages(sessions, campaign, device, ["failed"] * 2)
    assert await retry(client, campaign) == 2
    clock.advance(timedelta(seconds=5))
    async with sessions.begin() as session:
        tried_again = update(BroadcastMessage).where(BroadcastMessage.id == messages[0])
        await session.execute(tried_again.values(claimed_at=clock()))
    clock.advance(timedelta(seconds=5))
    assert await retry(client, campaign) == 1


async def test_one_failed_message_is_retried_once(client, campaign, device, sessions):
    [message, other] = await add_messages(sessions, campaign, device, ["failed", "failed"])
    assert await retry(client, campaign, f"/messages/{message}") == 1
    assert await retry(client, campaign, f"/messages/{message}") == 0
    assert await retry(client, campaign) == 1
    assert await retry(client, campaign, f"/messages/{other}") == 0
    assert [request.message_id for request in await requests(sessions)] == [message, None]


@pytest.mark.parametrize("confirmation", [{"json": {"confirm": True}}, {"params": {"confirm": "true"}}])
async def test_an_unknown_message_is_retried_only_after_a_warning(client, campaign, device, sessions, confirmation):
    [message] = await add_messages(sessions, campaign, device, ["unknown"])
    assert await retry(client, campaign) == 0
    assert "may get it twice" in await refusal(client, campaign, f"/messages/{message}")
    assert await retry(client, campaign, f"/messages/{message}", **confirmation) == 1
    assert await retry(client, campaign, f"/messages/{message}", **confirmation) == 0
    [request] = await requests(sessions)
    assert request.message_id == message


async def test_an_open_bulk_request_does_not_stand_for_an_unknown_message(client, campaign, device, sessions):
    [_, unknown] = await add_messages(sessions, campaign, device, ["failed", "unknown"])
    assert await retry(client, campaign) == 1
    assert await retry(client, campaign, f"/messages/{unknown}", json={"confirm": True}) == 1


REFUSED = {
    "sent": "was sent",
    "delivered": "was delivered",
    "read": "was read",
    "suppressed": "opted out",
    "cancelled": "was cancelled",
}


async def test_a_message_that_did_not_fail_is_not_sent_again(client, campaign, device, sessions):
    messages = await add_messages(sessions, campaign, device, REFUSED)
    for message, said in zip(messages, REFUSED.values(), strict=True):
        assert said in await refusal(client, campaign, f"/messages/{message}", json={"confirm": True})
    assert await requests(sessions) == []


async def test_a_message_that_waits_to_be_sent_is_queued_already(client, campaign, device, sessions):
    for message in await add_messages(sessions, campaign, device, ["pending", "claimed"]):
        assert await retry(client, campaign, f"/messages/{message}") == 0


async def test_a_message_that_failed_for_good_is_refused_with_its_reason(client, campaign, device, sessions):
    [message] = await add_messages(
        sessions, campaign, device, ["failed"], is_retryable=False, error_code="not_on_whatsapp", error_message="no account"
    )
    assert "no account" in await refusal(client, campaign, f"/messages/{message}")


async def test_a_message_of_another_campaign_is_not_found(client, campaign, device, sessions):
    other = await create(client)
    [message] = await add_messages(sessions, other, device, ["failed"])
    answer = await client.post(f"/api/campaigns/{campaign['id']}/messages/{message}/retry")
    assert answer.status_code == 404


async def test_someone_elses_device_is_not_found(api, client, campaign, sessions):
    await register(api, email="badrul@example.com")
    foreign = await add_device(sessions, await user_id_of(sessions, "badrul@example.com"))
    assert (await client.post(f"/api/campaigns/{campaign['id']}/device/{foreign}/retry-failed")).status_code == 404


async def test_a_cancelled_or_deleted_campaign_is_never_retried(client, campaign, device, sessions, clock):
    [message] = await add_messages(sessions, campaign, device, ["failed"])
    for columns, said in (({"status": "cancelled"}, "cancelled"), ({"deleted_at": clock()}, "deleted")):
        await set_campaign(sessions, campaign["id"], **columns)
        for where in ("", f"/device/{device}", f"/messages/{message}"):
            assert said in await refusal(client, campaign, where)
    assert await requests(sessions) == []


async def test_cancelling_drops_what_was_asked_for_and_not_carried_out(client, campaign, device, sessions):
    await add_messages(sessions, campaign, device, ["failed"])
    await set_campaign(sessions, campaign["id"], status="sending")
    await retry(client, campaign)
    await client.post(f"/api/campaigns/{campaign['id']}/cancel")
    assert all(request.done_at for request in await requests(sessions))


async def test_a_failed_message_of_a_deleted_device_can_be_retried(client, campaign, device, sessions):
    await add_messages(sessions, campaign, device, ["failed"])
    assert (await client.delete(f"/api/devices/{device}")).status_code == 200
    assert await retry(client, campaign, f"/device/{device}") == 1
