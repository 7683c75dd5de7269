"""Analytics over HTTP: the original's fields, every day of the range, in the user's zone, of one's own devices only."""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from httpx import AsyncClient
from sqlalchemy import insert, select

from siaran.db import SessionMaker
from siaran.models import DeviceStatus, MessageAnalytics
from tests.api.campaign_rows import Row, add_device, add_messages, create, user_id_of
from tests.api.conftest import MovableClock, register

KUALA_LUMPUR = ZoneInfo("Asia/Kuala_Lumpur")


@pytest.fixture
async def client(api):
    return await register(api)


@pytest.fixture
def today(clock: MovableClock) -> date:
    return clock().astimezone(KUALA_LUMPUR).date()


async def count(sessions: SessionMaker, user_id: UUID, device_id: UUID, day: date, **counts: int) -> None:
    async with sessions.begin() as session:
        row = {"user_id": user_id, "device_id": device_id, "day": day, **counts}
        await session.execute(insert(MessageAnalytics).values(row))


async def analytics_of(client: AsyncClient, path: str, **params: str) -> Row:
    answer = await client.get(f"/api/analytics/{path}", params=params)
    assert answer.status_code == 200, answer.text
    results: Row = answer.json()["results"]
    return results


async def test_a_range_has_the_originals_fields_and_adds_up(client, sessions, today):
    user_id = await user_id_of(sessions)
    first = await add_device(sessions, user_id, "first")
    second = await add_device(sessions, user_id, "second", status=DeviceStatus.BANNED)
    await count(sessions, user_id, first, today, sent=10, delivered=7, read=4, replied=2, failed=3)
    await count(sessions, user_id, second, today, sent=1)
    await count(sessions, user_id, first, today - timedelta(days=6), sent=5, delivered=5, read=5)
    await count(sessions, user_id, first, today - timedelta(days=7), sent=100)
    found = await analytics_of(client, "7")
    assert found["metrics"] == {
        "activeDevices": 1,
        "inactiveDevices": 1,
        "leadsSent": 16,
        "leadsReceived": 12,
        "leadsNotReceived": 4,
        "leadsRead": 9,
        "leadsNotRead": 3,
        "leadsReplied": 2,
    }
    assert found["daily"][-1] == {"date": today.isoformat(), "sent": 11, "received": 7, "read": 4, "replied": 2}
    assert found["daily"][1] == {
        "date": (today - timedelta(days=5)).isoformat(), "sent": 0, "received": 0, "read": 0, "replied": 0,
    }  # fmt: skip
    assert found["failures"][-1] == {"date": today.isoformat(), "failed": 3}


@pytest.mark.parametrize(("name", "days"), [("today", 1), ("7", 7), ("30", 30), ("90", 90)])
async def test_every_day_of_a_range_is_there_and_today_is_the_last(client, today, name, days):
    expected = [(today - timedelta(days=back)).isoformat() for back in reversed(range(days))]
    found = await analytics_of(client, name)
    assert [row["date"] for row in found["daily"]] == expected
    assert [row["date"] for row in found["failures"]] == expected


async def test_today_begins_at_midnight_of_the_users_zone(client, clock, today):
    local = datetime.combine(today + timedelta(days=1), datetime.min.time(), KUALA_LUMPUR)
    clock.advance(local.astimezone(UTC) - clock())
    assert (await analytics_of(client, "today"))["daily"][0]["date"] == (today + timedelta(days=1)).isoformat()


async def test_a_custom_range_includes_both_its_ends(client, sessions):
    user_id = await user_id_of(sessions)
    device = await add_device(sessions, user_id)
    for day in range(1, 6):
        await count(sessions, user_id, device, date(2026, 2, day), sent=day)
    found = await analytics_of(client, "custom", start="2026-02-02", end="2026-02-04")
    assert [(row["date"], row["sent"]) for row in found["daily"]] == [
        ("2026-02-02", 2),
        ("2026-02-03", 3),
        ("2026-02-04", 4),
    ]


async def test_a_device_can_be_picked_even_a_deleted_one(client, sessions, today, clock):
    user_id = await user_id_of(sessions)
    device = await add_device(sessions, user_id, status=DeviceStatus.LOGGED_OUT, deleted_at=clock())
    other = await add_device(sessions, user_id)
    await count(sessions, user_id, device, today, sent=2)
    await count(sessions, user_id, other, today, sent=3)
    for everything in ("", "all"):
        assert (await analytics_of(client, "today", device=everything))["metrics"]["leadsSent"] == 5
    metrics = (await analytics_of(client, "today", device=str(device)))["metrics"]
    assert (metrics["leadsSent"], metrics["activeDevices"], metrics["inactiveDevices"]) == (2, 0, 0)
    metrics = (await analytics_of(client, "today", device=str(other)))["metrics"]
    assert (metrics["leadsSent"], metrics["activeDevices"], metrics["inactiveDevices"]) == (3, 1, 0)


async def test_nobody_sees_what_somebody_elses_devices_sent(api, client, sessions, today):
    other = await register(api, email="badrul@example.com")
    foreign_user = await user_id_of(sessions, "badrul@example.com")
    foreign = await add_device(sessions, foreign_user)
    await count(sessions, foreign_user, foreign, today, sent=2)
    assert (await analytics_of(client, "today"))["metrics"]["leadsSent"] == 0
    for path in (
        "today",
        "7/export",
        "custom?start=2026-01-01&end=2026-01-02",
        "custom/export?start=2026-01-01&end=2026-01-02",
    ):
        answer = await client.get(f"/api/analytics/{path}{'&' if '?' in path else '?'}device={foreign}")
        assert answer.status_code == 404
    assert (await analytics_of(other, "today", device=str(foreign)))["metrics"]["leadsSent"] == 2


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("14", "days"),
        ("yesterday", "days"),
        ("14/export", "days"),
        ("custom", "start"),
        ("custom?start=2026-02-01", "end"),
        ("custom?start=1.2.2026&end=2026-02-01", "start"),
        ("custom?start=2026-02-01&end=2026-02-30", "end"),
        ("custom?start=2026-02-02&end=2026-02-01", "start"),
        ("custom?start=2020-01-01&end=2026-02-01", "end"),
        ("custom/export?start=2026-02-02&end=x", "end"),
        ("7?device=front-desk", "device"),
    ],
)
async def test_a_range_that_is_none_is_refused_by_its_field(client, path, field):
    answer = await client.get(f"/api/analytics/{path}")
    assert answer.status_code == 422
    assert field in {error["field"].rpartition(".")[2] for error in answer.json()["errors"]}


async def test_a_range_can_be_saved_device_by_device(client, sessions, today):
    user_id = await user_id_of(sessions)
    device = await add_device(sessions, user_id, '=HYPERLINK("x")')
    await count(sessions, user_id, device, today, sent=3, delivered=2, read=1, replied=1, failed=4)
    answer = await client.get("/api/analytics/7/export")
    assert answer.headers["content-type"].startswith("text/csv")
    assert "attachment" in answer.headers["content-disposition"]
    assert answer.text.splitlines() == [
        "date,device_id,device,sent,received,read,replied,failed",
        f'{today},{device},"\'=HYPERLINK(""x"")",3,2,1,1,4',
    ]


async def test_another_time_zone_counts_the_days_again(client, sessions):
    campaign = await create(client)
    device = await add_device(sessions, await user_id_of(sessions))
    sent_at = datetime(2026, 2, 1, 20, tzinfo=UTC)
    await add_messages(sessions, campaign, device, ["sent"], sent_at=sent_at)
    for zone, day in (("America/New_York", "2026-02-01"), ("Asia/Kuala_Lumpur", "2026-02-02")):
        assert (await client.patch("/api/me", json={"timezone": zone})).status_code == 200
        found = await analytics_of(client, "custom", start="2026-02-01", end="2026-02-02")
        assert {row["date"]: row["sent"] for row in found["daily"] if row["sent"]} == {day: 1}
    async with sessions() as session:
        rows = list(await session.scalars(select(MessageAnalytics)))
    assert sum(row.sent for row in rows) == 1


async def test_an_unknown_device_is_not_found(client):
    assert (await client.get(f"/api/analytics/7?device={uuid4()}")).status_code == 404
