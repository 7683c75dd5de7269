"""Preflight: whom a campaign reaches, over which devices, and when it will be done."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from httpx import AsyncClient
from sqlalchemy import select, update

from siaran.models import (
    AttemptOutcome,
    Campaign,
    CampaignStatus,
    Device,
    DeviceStatus,
    Lane,
    Lead,
    MessageAttempt,
    MessageStatus,
    Suppression,
    User,
)
from tests import factories
from tests.api.campaign_rows import Row, add_device, add_leads, create, user_id_of
from tests.api.conftest import register

KL = ZoneInfo("Asia/Kuala_Lumpur")


async def preflight(client: AsyncClient, campaign: Row) -> Row:
    answer = await client.get(f"/api/campaigns/{campaign['id']}/preflight")
    assert answer.status_code == 200, answer.text
    results: Row = answer.json()["results"]
    return results


async def test_preflight_counts_the_audience_by_whole_tags_and_status(api, sessions):
    client = await register(api)
    user_id = await user_id_of(sessions)
    await add_leads(sessions, user_id, 3, niche="EXSTART,ITADRESS", suppressed=1)
    await add_leads(sessions, user_id, 2, niche="ITADRESS2")
    await add_leads(sessions, user_id, 4, niche="ITADRESS", target_status="customer")
    await register(api, email="badrul@example.com")
    await add_leads(sessions, await user_id_of(sessions, "badrul@example.com"), 5, niche="ITADRESS")

    async def counted(**fields: Any) -> tuple[int, int]:
        found = await preflight(client, await create(client, **fields))
        assert found["recipients"] == found["matched"] - found["suppressed"]
        return found["matched"], found["suppressed"]

    assert await counted(niche="itadress") == (3, 1)
    assert await counted(niche="ITADRESS2,exstart") == (5, 1)
    assert await counted(niche="ITADRES") == (0, 0)
    assert await counted(niche="") == (5, 1)
    assert await counted(niche="ITADRESS", target_status="customer") == (4, 0)


async def test_preflight_spreads_ten_thousand_over_fifteen_devices_in_about_3_7_hours(api, sessions):
    client = await register(api)
    user_id = await user_id_of(sessions)
    await add_leads(sessions, user_id, 10_000)
    for number in range(15):
        await add_device(sessions, user_id, f"device {number}")
    await add_device(sessions, user_id, "away", status=DeviceStatus.OFFLINE)
    await add_device(sessions, user_id, "banned", status=DeviceStatus.BANNED)
    campaign = await create(client)
    found = await preflight(client, campaign)
    assert (found["devices_total"], found["devices_usable"], found["recipients"], found["waiting"]) == (16, 15, 10_000, 0)
    assert sum(device["messages"] for device in found["devices"]) == 10_000
    assert {device["messages"] for device in found["devices"] if device["can_send"]} == {666, 667}
    assert found["estimate"] == "about 3.7 hours"
    assert found["starts_at"] == campaign["scheduled_at"]
    took = datetime.fromisoformat(found["finishes_at"]) - datetime.fromisoformat(found["starts_at"])
    assert took == timedelta(seconds=found["estimated_seconds"]) == timedelta(seconds=666 * 20)


async def test_preflight_gives_owned_leads_to_their_own_device(api, sessions):
    client = await register(api)
    user_id = await user_id_of(sessions)
    near, away = (
        await add_device(sessions, user_id, "near"),
        await add_device(sessions, user_id, "away", status=DeviceStatus.OFFLINE),
    )
    await add_leads(sessions, user_id, 3, device_id=near)
    await add_leads(sessions, user_id, 2, device_id=away)
    await add_leads(sessions, user_id, 1)
    found = await preflight(client, await create(client, device_strategy="owner"))
    assert {device["name"]: device["messages"] for device in found["devices"]} == {"near": 3, "away": 2}
    assert (found["matched"], found["without_device"], found["recipients"], found["waiting"]) == (6, 1, 5, 2)


async def test_preflight_counts_whom_the_frequency_cap_passes_over_and_whose_number_has_no_account(api, sessions, clock):
    client = await register(api)
    user_id = await user_id_of(sessions)
    await add_leads(sessions, user_id, 5, suppressed=1)
    async with sessions.begin() as session:
        phones = list(await session.scalars(select(Lead.phone).where(Lead.user_id == user_id).order_by(Lead.id)))
        out = await session.scalar(select(Suppression.phone).where(Suppression.user_id == user_id))
        written = [phone for phone in phones if phone != out][:3]
        user, host = await session.get_one(User, user_id), await factories.add_host(session)
        user.contact_limit, user.contact_limit_days = 2, 7
        device = await factories.add_device(session, user, host)
        for days, numbers in ((1, written), (5, written[:2]), (8, written)):
            earlier = await factories.add_campaign(session, user)
            sent_at = clock() - timedelta(days=days)
            await factories.add_messages(session, earlier, device, numbers, status=MessageStatus.SENT, sent_at=sent_at)
        failed = await factories.add_campaign(session, user)
        await factories.add_messages(
            session, failed, device, written, status=MessageStatus.FAILED, error_code="not_on_whatsapp"
        )

    found = await preflight(client, await create(client))
    assert (found["matched"], found["suppressed"], found["limited"], found["invalid"]) == (5, 1, 2, 1)
    assert (found["recipients"], found["messages"], found["duplicates"]) == (2, 2, 0)
    in_four_days = (clock() + timedelta(days=4)).astimezone(KL).date().isoformat()
    assert (await preflight(client, await create(client, campaign_date=in_four_days)))["limited"] == 0
    async with sessions.begin() as session:
        await session.execute(update(User).values(contact_limit=None))
    assert (await preflight(client, await create(client)))["limited"] == 0


async def test_preflight_counts_in_what_the_devices_have_sent_and_still_have_to_send(api, sessions, clock):
    client = await register(api)
    user_id = await user_id_of(sessions)
    await add_leads(sessions, user_id, 30)
    async with sessions.begin() as session:
        user, host = await session.get_one(User, user_id), await factories.add_host(session)
        busy = await factories.add_device(session, user, host, device_name="busy")
        capped = await factories.add_device(session, user, host, device_name="capped", max_per_hour=10)
        other = await factories.add_campaign(session, user, min_delay_seconds=60, max_delay_seconds=60)
        await factories.add_messages(session, other, busy, 100)
        paused = await factories.add_campaign(session, user, status=CampaignStatus.PAUSED)
        await factories.add_messages(session, paused, busy, 500)
        done = await factories.add_campaign(session, user)
        ids = await factories.add_messages(session, done, capped, 10, status=MessageStatus.SENT)
        session.add_all(
            MessageAttempt(
                message_id=message_id, attempt=1, user_id=user_id, device_id=capped.id, host_id=host.id, link_generation=1,
                outcome=AttemptOutcome.SENT, content="Hi", attempted_at=clock() - timedelta(minutes=15),
            )
            for message_id in ids
        )  # fmt: skip

    today = clock().astimezone(KL).date().isoformat()
    found = await preflight(client, await create(client, campaign_date=today))
    starts_at = datetime.fromisoformat(found["starts_at"])
    seconds = {
        device["name"]: (datetime.fromisoformat(device["finishes_at"]) - starts_at).total_seconds()
        for device in found["devices"]
    }
    assert {device["name"]: device["backlog"] for device in found["devices"]} == {"busy": 100, "capped": 0}
    assert seconds["busy"] == pytest.approx(15 * (20 + 60), rel=0.1)
    assert seconds["capped"] == pytest.approx((45 + 60) * 60, rel=0.1)
    assert found["estimated_seconds"] == pytest.approx(max(seconds.values()), abs=1)


async def test_preflight_waits_for_the_morning(api, sessions, clock):
    client = await register(api)
    user_id = await user_id_of(sessions)
    await add_leads(sessions, user_id, 2)
    await add_device(sessions, user_id, "desk")
    local = clock().astimezone(KL)
    async with sessions.begin() as session:
        user = await session.get_one(User, user_id)
        user.quiet_from, user.quiet_until = (local - timedelta(hours=1)).time(), (local + timedelta(hours=3)).time()
    found = await preflight(client, await create(client))
    assert found["estimated_seconds"] == pytest.approx(3 * 3_600 + 20, abs=90)


async def test_the_preflight_of_a_campaign_under_way_is_about_what_is_left(api, sessions):
    client = await register(api)
    user_id = await user_id_of(sessions)
    await add_leads(sessions, user_id, 9)
    campaign = await create(client)
    async with sessions.begin() as session:
        user, host = await session.get_one(User, user_id), await factories.add_host(session)
        device = await factories.add_device(session, user, host)
        row = await session.get_one(Campaign, campaign["id"])
        row.status, row.expanded_at = CampaignStatus.SENDING, row.created_at
        await factories.add_messages(session, row, device, 4)
    found = await preflight(client, campaign)
    assert (found["matched"], found["messages"], found["waiting"]) == (9, 4, 0)
    assert [share["messages"] for share in found["devices"]] == [4]
    assert found["estimated_seconds"] == 60


async def test_preflight_without_a_device_says_so_instead_of_guessing(api, sessions):
    client = await register(api)
    user_id = await user_id_of(sessions)
    await add_leads(sessions, user_id, 3)
    away = await add_device(sessions, user_id, "away", status=DeviceStatus.OFFLINE)
    found = await preflight(client, await create(client))
    assert (found["waiting"], found["finishes_at"], found["estimated_seconds"]) == (3, None, None)
    assert found["estimate"] == "no device can send at the moment"
    async with sessions.begin() as session:
        await session.execute(update(Device).where(Device.id == away).values(jid=None))
    assert (await preflight(client, await create(client)))["devices"] == []


async def test_a_device_that_is_held_up_is_not_counted_on(api, sessions, clock):
    client = await register(api)
    user_id = await user_id_of(sessions)
    await add_leads(sessions, user_id, 2)
    later = clock() + timedelta(hours=1)
    for name, statement in {
        "stopped": update(Lane).values(paused_at=clock()),
        "restricted": update(Device).values(restricted_until_at=later),
        "hostless": update(Device).values(host_id=None),
        "deleted": update(Device).values(deleted_at=clock()),
    }.items():
        device = await add_device(sessions, user_id, name)
        campaign = await create(client, device_id=str(device))
        assert (await preflight(client, campaign))["devices_usable"] == 1
        async with sessions.begin() as session:
            await session.execute(statement)
        assert (await preflight(client, campaign))["devices_usable"] == 0, name


async def test_a_campaign_for_one_device_is_estimated_on_that_device(api, sessions):
    client = await register(api)
    user_id = await user_id_of(sessions)
    await add_leads(sessions, user_id, 4)
    first, _ = await add_device(sessions, user_id, "first"), await add_device(sessions, user_id, "second")
    found = await preflight(client, await create(client, device_id=str(first)))
    assert [(UUID(device["id"]), device["messages"]) for device in found["devices"]] == [(first, 4)]
