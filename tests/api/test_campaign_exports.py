"""Reports as CSV files say what the reports say, are safe to open, and are nobody else's."""

import csv
import io
from datetime import UTC, date, datetime

import pytest
from httpx import AsyncClient

import siaran.campaign_exports
from siaran.models import MessageStatus
from tests.api.campaign_rows import TOMORROW, add_device, add_messages, create, put_under_way, user_id_of
from tests.api.conftest import register

STATES = [status.value for status in MessageStatus]


@pytest.fixture
async def client(api):
    return await register(api)


async def rows_of(client: AsyncClient, path: str, **params: str) -> list[dict[str, str]]:
    answer = await client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith("attachment; filename=")
    return list(csv.DictReader(io.StringIO(answer.text)))


async def test_the_summary_as_a_file_has_every_campaign_with_its_counts(client, sessions, monkeypatch):
    monkeypatch.setattr(siaran.campaign_exports, "CAMPAIGNS_AT_ONCE", 2)
    device = await add_device(sessions, await user_id_of(sessions))
    made = [await create(client, title=f"=Promo {number}", niche="EXSTART,ITADRESS") for number in range(3)]
    await add_messages(sessions, made[0], device, STATES)
    rows = await rows_of(client, "/api/campaigns/summary/export", date=TOMORROW)
    assert {row["id"] for row in rows} == {str(campaign["id"]) for campaign in made}
    row = next(row for row in rows if row["id"] == str(made[0]["id"]))
    assert row["title"] == "'=Promo 0"
    assert (row["date"], row["day"]) == (TOMORROW, f"{date.fromisoformat(TOMORROW):%A}")
    assert (row["niche"], row["target_status"], row["status"]) == ("EXSTART,ITADRESS", "prospect", "scheduled")
    counts = [row[name] for name in ("total", "pending", "success", "failed", "suppressed", "cancelled", "success_rate")]
    assert counts == ["9", "2", "3", "2", "1", "1", "60.0"]


async def test_the_summary_as_a_file_takes_the_summarys_filters(client):
    await create(client)
    assert len(await rows_of(client, "/api/campaigns/summary/export")) == 1
    assert len(await rows_of(client, "/api/campaigns/summary/export", to="2026-01-01")) == 0
    assert len(await rows_of(client, "/api/campaigns/summary/export", all="true")) == 1
    answer = await client.get("/api/campaigns/summary/export", params={"from": "yesterday"})
    assert answer.status_code == 422
    assert [error["field"].rpartition(".")[2] for error in answer.json()["errors"]] == ["from"]


async def test_the_device_report_as_a_file_ends_with_the_sum(client, sessions):
    user_id = await user_id_of(sessions)
    campaign = await create(client)
    first, second = await add_device(sessions, user_id, "@first"), await add_device(sessions, user_id, "second")
    await add_messages(sessions, campaign, first, STATES)
    await add_messages(sessions, campaign, second, ["sent"])
    await put_under_way(sessions, campaign["id"])
    rows = await rows_of(client, f"/api/campaigns/{campaign['id']}/device-report/export")
    assert [(row["device"], row["total"], row["success"]) for row in rows] == [
        ("'@first", "9", "3"),
        ("second", "1", "1"),
        ("all devices", "10", "4"),
    ]


@pytest.mark.parametrize("place", ["device", "campaign"])
async def test_recipients_as_a_file_are_those_of_the_list(client, sessions, place, monkeypatch):
    monkeypatch.setattr(siaran.campaign_exports, "PAGE_ROWS", 2)
    user_id = await user_id_of(sessions)
    campaign = await create(client)
    device, other = await add_device(sessions, user_id, "a"), await add_device(sessions, user_id, "b")
    await add_messages(sessions, campaign, device, STATES)
    await add_messages(sessions, campaign, other, ["sent", "failed"])
    await add_messages(sessions, await create(client), device, ["sent"])
    list_path = f"/api/campaigns/{campaign['id']}" + (f"/device/{device}/leads" if place == "device" else "/messages")
    file_path = f"/api/campaigns/{campaign['id']}" + (f"/device/{device}" if place == "device" else "") + "/leads/export"
    for group in ("all", "pending", "success", "failed"):
        listed = (await client.get(list_path, params={"status": group})).json()["results"]
        rows = await rows_of(client, file_path, status=group)
        assert {(row["phone"], row["status"]) for row in rows} == {(lead["phone"], lead["status"]) for lead in listed}
        assert len(rows) == len(listed) > 0
        assert [row["phone"] for row in rows] == sorted(row["phone"] for row in rows)


async def test_a_recipient_in_a_file_has_local_times_and_an_error_and_no_formula(client, sessions):
    campaign = await create(client)
    device = await add_device(sessions, await user_id_of(sessions), "Front")
    sent_at = datetime(2026, 2, 1, 20, 30, tzinfo=UTC)
    await add_messages(
        sessions,
        campaign,
        device,
        ["sent"],
        recipient_phone="60111111111",
        recipient_name="+cmd|' /C calc'!A0",
        sent_at=sent_at,
    )
    await add_messages(
        sessions, campaign, device, ["failed"], recipient_phone="60111111112", error_message="not on WhatsApp", attempt=2
    )
    sent, failed = await rows_of(client, f"/api/campaigns/{campaign['id']}/leads/export")
    assert sent["name"] == "'+cmd|' /C calc'!A0"
    assert (sent["device"], sent["sent_at"], sent["error"]) == ("Front", "2026-02-02 04:30:00+08:00", "")
    assert (failed["sent_at"], failed["error"], failed["attempts"]) == ("", "not on WhatsApp", "2")


async def test_files_of_somebody_elses_campaign_or_device_are_not_found(api, client, sessions):
    campaign = await create(client)
    device = await add_device(sessions, await user_id_of(sessions))
    await add_messages(sessions, campaign, device, ["sent"])
    other = await register(api, email="badrul@example.com")
    foreign = await add_device(sessions, await user_id_of(sessions, "badrul@example.com"))
    for path in ("device-report/export", "leads/export", f"device/{device}/leads/export"):
        assert (await other.get(f"/api/campaigns/{campaign['id']}/{path}")).status_code == 404
    assert (await client.get(f"/api/campaigns/{campaign['id']}/device/{foreign}/leads/export")).status_code == 404
    assert await rows_of(other, "/api/campaigns/summary/export", all="true") == []


async def test_an_unknown_group_is_refused_before_the_file_begins(client):
    campaign = await create(client)
    answer = await client.get(f"/api/campaigns/{campaign['id']}/leads/export?status=done")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "status"
