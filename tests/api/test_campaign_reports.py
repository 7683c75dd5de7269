"""What the reports say adds up, page by page and device by device."""

from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from httpx import AsyncClient
from sqlalchemy import update

from siaran.models import Device, DeviceStatus, MessageStatus
from tests.api.campaign_rows import (
    TOMORROW,
    Row,
    add_device,
    add_messages,
    create,
    put_under_way,
    set_campaign,
    show,
    user_id_of,
)
from tests.api.conftest import PASSWORD, log_in, register

STATES = [status.value for status in MessageStatus]
GROUPS = {
    "pending": {"pending", "claimed"},
    "success": {"sent", "delivered", "read"},
    "failed": {"failed", "unknown"},
    "suppressed": {"suppressed"},
    "cancelled": {"cancelled"},
}


@pytest.fixture
async def client(api):
    return await register(api)


async def report_of(client: AsyncClient, campaign: Row) -> Row:
    answer = await client.get(f"/api/campaigns/{campaign['id']}/device-report")
    assert answer.status_code == 200, answer.text
    results: Row = answer.json()["results"]
    return results


def assert_it_adds_up(counts: Row) -> None:
    parts = ("pendingLeads", "successLeads", "failedLeads", "suppressedLeads", "cancelledLeads")
    assert counts["totalLeads"] == sum(counts[part] for part in parts)


async def test_a_campaign_counts_every_state_and_they_add_up(client, sessions):
    campaign = await create(client)
    device = await add_device(sessions, await user_id_of(sessions))
    await add_messages(sessions, campaign, device, [*STATES, "sent"])
    counts = (await show(client, campaign["id"]))["counts"]
    assert counts == {
        "total": 10,
        "pending": 2,
        "sent": 2,
        "delivered": 1,
        "read": 1,
        "failed": 1,
        "unknown": 1,
        "suppressed": 1,
        "cancelled": 1,
        "success": 4,
    }


async def test_before_the_audience_is_written_every_device_has_a_row_of_zeros(client, sessions):
    user_id = await user_id_of(sessions)
    first = await add_device(sessions, user_id, "first")
    await add_device(sessions, user_id, "second", status=DeviceStatus.OFFLINE)
    report = await report_of(client, await create(client))
    assert (report["totalDevices"], report["activeDevices"], report["disconnectedDevices"]) == (2, 1, 1)
    assert [(row["name"], row["totalLeads"], row["successRate"]) for row in report["devices"]] == [
        ("first", 0, 0),
        ("second", 0, 0),
    ]
    only = await report_of(client, await create(client, device_id=str(first)))
    assert [row["id"] for row in only["devices"]] == [str(first)]


async def test_the_device_report_adds_up_by_device_and_in_all(client, sessions):
    user_id = await user_id_of(sessions)
    campaign = await create(client)
    first = await add_device(sessions, user_id, "first")
    second = await add_device(sessions, user_id, "second", status=DeviceStatus.BANNED)
    await add_device(sessions, user_id, "took no part")
    await add_messages(sessions, campaign, first, STATES)
    await add_messages(sessions, campaign, second, ["sent", "sent", "sent", "failed"])
    await put_under_way(sessions, campaign["id"])
    report = await report_of(client, campaign)
    assert (report["totalDevices"], report["activeDevices"], report["disconnectedDevices"]) == (2, 1, 1)
    assert (report["totalLeads"], report["pendingLeads"], report["successLeads"], report["failedLeads"]) == (13, 2, 6, 3)
    rows = {row["name"]: row for row in report["devices"]}
    assert rows["second"]["status"] == "banned"
    assert rows["second"]["successRate"] == 75.0
    for counts in (report, *report["devices"]):
        assert_it_adds_up(counts)
    for key in ("totalLeads", "pendingLeads", "successLeads", "failedLeads", "suppressedLeads", "cancelledLeads"):
        assert report[key] == sum(row[key] for row in report["devices"])


async def test_a_deleted_device_stays_in_the_report(client, sessions, clock):
    campaign = await create(client)
    device = await add_device(sessions, await user_id_of(sessions))
    messages = await add_messages(sessions, campaign, device, ["sent", "failed"])
    await put_under_way(sessions, campaign["id"], "sent")
    async with sessions.begin() as session:
        await session.execute(update(Device).values(deleted_at=clock(), is_active=False, status="logged_out"))
    report = await report_of(client, campaign)
    assert [(row["id"], row["isDeleted"], row["totalLeads"]) for row in report["devices"]] == [(str(device), True, 2)]
    assert (report["activeDevices"], report["disconnectedDevices"]) == (0, 1)
    leads = await client.get(f"/api/campaigns/{campaign['id']}/device/{device}/leads")
    assert [lead["id"] for lead in leads.json()["results"]] == messages


@pytest.mark.parametrize("place", ["device", "campaign"])
async def test_every_count_opens_the_list_of_those_leads(client, sessions, place):
    campaign = await create(client)
    user_id = await user_id_of(sessions)
    device, other = await add_device(sessions, user_id, "a"), await add_device(sessions, user_id, "b")
    await add_messages(sessions, campaign, device, STATES * 2)
    if place == "campaign":
        await add_messages(sessions, campaign, other, STATES)
    else:
        await add_messages(sessions, await create(client), device, STATES)
    path = f"/api/campaigns/{campaign['id']}" + (f"/device/{device}/leads" if place == "device" else "/messages")
    everyone = (await client.get(path)).json()["results"]
    assert len(everyone) == len(STATES) * (2 if place == "device" else 3)
    assert [lead["id"] for lead in everyone] == sorted(lead["id"] for lead in everyone)
    for group, states in GROUPS.items():
        listed = (await client.get(path, params={"status": group})).json()["results"]
        assert listed == [lead for lead in everyone if lead["status"] in states]
        assert listed


async def test_a_lead_shows_what_became_of_it(client, sessions):
    campaign = await create(client)
    device = await add_device(sessions, await user_id_of(sessions))
    [sent] = await add_messages(sessions, campaign, device, ["sent"], recipient_name="Ali", recipient_phone="60111111111")
    await add_messages(sessions, campaign, device, ["failed"], error_code="rate_limited", error_message="too fast", attempt=2)
    first, second = (await client.get(f"/api/campaigns/{campaign['id']}/messages")).json()["results"]
    assert (first["id"], first["name"], first["phone"], first["status"]) == (sent, "Ali", "60111111111", "sent")
    assert datetime.fromisoformat(first["sentAt"]).tzinfo is not None
    assert (first["error"], first["canRetry"]) == (None, False)
    assert (second["sentAt"], second["error"], second["errorCode"]) == (None, "too fast", "rate_limited")
    assert (second["attempts"], second["canRetry"]) == (2, True)


@pytest.mark.parametrize("place", ["device", "campaign"])
async def test_pages_of_leads_hold_everyone_once(client, sessions, place):
    campaign = await create(client)
    user_id = await user_id_of(sessions)
    devices = [await add_device(sessions, user_id, name) for name in "ab"]
    for number in range(8):
        await add_messages(sessions, campaign, devices[number % 2], ["read", "failed", "sent"])
    path = f"/api/campaigns/{campaign['id']}" + (f"/device/{devices[0]}/leads" if place == "device" else "/messages")
    whole = (await client.get(path, params={"status": "success"})).json()["results"]
    seen, url = [], f"{path}?status=success&limit=3"
    while url:
        answer = await client.get(url)
        seen += answer.json()["results"]
        assert answer.headers.get("x-next-cursor") == answer.json()["next_cursor"]
        url = answer.headers.get("link", "").partition("<")[2].partition(">")[0]
    assert seen == whole
    assert len(whole) == (8 if place == "device" else 16)


async def test_an_unknown_group_and_someone_elses_device_are_refused(api, client, sessions):
    campaign = await create(client)
    answer = await client.get(f"/api/campaigns/{campaign['id']}/messages?status=done")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "status"
    await register(api, email="badrul@example.com")
    foreign = await add_device(sessions, await user_id_of(sessions, "badrul@example.com"))
    assert (await client.get(f"/api/campaigns/{campaign['id']}/device/{foreign}/leads")).status_code == 404


async def summary_of(client: AsyncClient, **params: Any) -> Row:
    answer = await client.get("/api/campaigns/summary", params=params)
    assert answer.status_code == 200, answer.text
    results: Row = answer.json()["results"]
    return results


async def test_the_summary_is_of_today_and_tomorrow_in_the_users_zone(api, client, clock):
    today = clock().astimezone(ZoneInfo("Asia/Kuala_Lumpur")).date()
    made = [
        await create(client, campaign_date=(today + timedelta(days=days)).isoformat(), scheduled_time="23:59")
        for days in range(3)
    ]
    summary = await summary_of(client)
    assert [item["id"] for item in summary["recent_campaigns"]] == [made[1]["id"], made[0]["id"]]
    assert summary["campaigns"] == {"total": 2, "pending": 2, "sent": 0, "failed": 0}
    assert (summary["first_date"], summary["last_date"]) == (today.isoformat(), (today + timedelta(days=1)).isoformat())
    clock.advance(timedelta(days=1))
    client = await log_in(api, email="aisyah@example.com", password=PASSWORD)
    assert len((await summary_of(client))["recent_campaigns"]) == 2
    clock.advance(timedelta(days=365))
    client = await log_in(api, email="aisyah@example.com", password=PASSWORD)
    assert (await summary_of(client))["recent_campaigns"] == []
    assert (await summary_of(client, all=True))["campaigns"]["total"] == 3


async def test_the_summary_counts_campaigns_and_messages_by_decision_6(api, client, sessions):
    device = await add_device(sessions, await user_id_of(sessions))
    for status in ("scheduled", "sending", "waiting", "paused", "sent", "failed", "cancelled"):
        campaign = await create(client)
        await set_campaign(sessions, campaign["id"], status=status)
        await add_messages(sessions, campaign, device, STATES)
    other = await register(api, email="badrul@example.com")
    foreign = await create(other)
    await add_messages(sessions, foreign, await add_device(sessions, UUID(foreign["user_id"])), STATES)
    summary = await summary_of(client, date=TOMORROW)
    assert summary["campaigns"] == {"total": 7, "pending": 4, "sent": 1, "failed": 2}
    assert summary["messages"] == {
        "total_messages": 63,
        "sent_messages": 21,
        "failed_messages": 14,
        "pending_messages": 14,
        "suppressed_messages": 7,
        "cancelled_messages": 7,
        "success_rate": 60.0,
    }


async def test_the_summary_takes_one_date_or_a_range(client):
    first = date.fromisoformat(TOMORROW) + timedelta(days=10)
    for days in range(4):
        await create(client, campaign_date=(first + timedelta(days=days)).isoformat())

    async def counted(**params: str) -> int:
        return int((await summary_of(client, **params))["campaigns"]["total"])

    day = [(first + timedelta(days=days)).isoformat() for days in range(4)]
    assert await counted(date=day[1]) == 1
    assert await counted(**{"from": day[1], "to": day[2]}) == 2
    assert await counted(**{"from": day[1]}) == 3
    assert await counted(to=day[0]) == 1
    assert (await client.get("/api/campaigns/summary?date=tomorrow")).status_code == 422


async def test_an_empty_summary_is_made_of_zeros_and_an_empty_list(client):
    summary = await summary_of(client)
    assert summary["recent_campaigns"] == []
    assert summary["messages"]["success_rate"] == 0
    assert summary["messages"]["total_messages"] == 0


async def test_a_summary_longer_than_a_page_goes_on(client):
    for _ in range(3):
        await create(client)
    first = await summary_of(client, date=TOMORROW, limit=2)
    second = await summary_of(client, date=TOMORROW, limit=2, cursor=first["next_cursor"])
    ids = [item["id"] for item in first["recent_campaigns"] + second["recent_campaigns"]]
    assert len(set(ids)) == len(ids) == 3
    assert second["next_cursor"] is None
    assert first["campaigns"]["total"] == second["campaigns"]["total"] == 3
