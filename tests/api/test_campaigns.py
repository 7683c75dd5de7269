"""Campaigns through the API: create, list, show, edit, delete."""

import asyncio
import json
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from httpx import AsyncClient
from sqlalchemy import func, select

from siaran.db import SessionMaker
from siaran.models import BroadcastMessage, Campaign, CampaignRetry
from tests.api.campaign_rows import (
    TOMORROW,
    add_device,
    add_messages,
    create,
    put_under_way,
    set_campaign,
    show,
    user_id_of,
)
from tests.api.conftest import PASSWORD, log_in, register
from tests.media_files import mp4, pdf, upload

KL = ZoneInfo("Asia/Kuala_Lumpur")


async def create_error(client: AsyncClient, **fields: Any) -> dict[str, str]:
    body = {"title": "Promo", "target_status": "prospect", "message": "Hi", "campaign_date": TOMORROW, **fields}
    answer = await client.post("/api/campaigns", json={key: value for key, value in body.items() if value is not ...})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return {error["field"]: error["reason"] for error in answer.json()["errors"]}


async def test_a_created_campaign_is_scheduled_and_shown_with_every_field(api):
    client = await register(api)
    image = await upload(client)
    created = await create(client, niche="exstart, ITADRESS", time_schedule="09:05", image_url=image)
    assert created == await show(client, created["id"])
    assert isinstance(created["id"], int)
    assert created["scheduled_time"] == created["time_schedule"] == "09:05"
    due = datetime.fromisoformat(created["scheduled_at"])
    assert due.astimezone(KL).strftime("%Y-%m-%d %H:%M") == f"{created['campaign_date']} 09:05"
    counts = dict.fromkeys(["total", "pending", "sent", "delivered", "read", "failed"], 0)
    assert created["counts"] == counts | dict.fromkeys(["unknown", "suppressed", "cancelled", "success"], 0)
    expected = {
        "device_id": None,
        "title": "Promo",
        "niche": "exstart, ITADRESS",
        "target_status": "prospect",
        "message": "Hi {{name}}",
        "image_url": image,
        "message_type": "image",
        "campaign_date": TOMORROW,
        "min_delay_seconds": 10,
        "max_delay_seconds": 30,
        "device_strategy": "balanced",
        "status": "scheduled",
        "status_reason": None,
    }
    assert {key: created[key] for key in expected} == expected


async def test_a_created_campaign_has_its_workflow(api, temporal_client):
    created = await create(await register(api))
    description = await temporal_client.get_workflow_handle(f"campaign:{created['id']}").describe()
    assert description.workflow_type == "CampaignWorkflow"


async def test_without_a_time_a_campaign_for_today_is_due_now(api, clock):
    client = await register(api)
    today = clock().astimezone(KL).date().isoformat()
    created = await create(client, campaign_date=today, scheduled_time="")
    assert abs(datetime.fromisoformat(created["scheduled_at"]) - clock()) < timedelta(seconds=30)


async def test_without_a_time_a_later_campaign_is_never_due_at_once(api, clock):
    created = await create(await register(api))
    assert datetime.fromisoformat(created["scheduled_at"]) > clock() + timedelta(hours=1)


async def test_send_now_takes_the_place_of_a_date(api, clock):
    client = await register(api)
    created = await create(client, campaign_date="2020-01-01", scheduled_time="09:00", send_now=True)
    assert abs(datetime.fromisoformat(created["scheduled_at"]) - clock()) < timedelta(seconds=30)
    assert (await create(client, campaign_date=None, send_now=True))["campaign_date"] == created["campaign_date"]


async def test_date_and_time_are_meant_in_the_users_zone(api):
    client = await register(api)
    assert (await client.patch("/api/me", json={"timezone": "America/New_York"})).status_code == 200
    created = await create(client, scheduled_time="23:30")
    due = datetime.fromisoformat(created["scheduled_at"]).astimezone(ZoneInfo("America/New_York"))
    assert due.strftime("%Y-%m-%d %H:%M") == f"{TOMORROW} 23:30"


WRONG_FIELDS: list[tuple[dict[str, object], str]] = [
    ({"title": "  "}, "title"),
    ({"title": ...}, "title"),
    ({"title": "x" * 201}, "title"),
    ({"target_status": "all"}, "target_status"),
    ({"target_status": ...}, "target_status"),
    ({"message": " "}, "message"),
    ({"message": "Hi {{nama}}"}, "message"),
    ({"message": "Hi \x00"}, "message"),
    ({"campaign_date": ...}, "campaign_date"),
    ({"campaign_date": "31/08/2026"}, "campaign_date"),
    ({"campaign_date": 20260831}, "campaign_date"),
    ({"campaign_date": "2020-01-01"}, "campaign_date"),
    ({"campaign_date": "9999-12-31"}, "campaign_date"),
    ({"scheduled_time": "25:00"}, "scheduled_time"),
    ({"time_schedule": "9am"}, "time_schedule"),
    ({"min_delay_seconds": 40}, "min_delay_seconds"),
    ({"min_delay_seconds": -1}, "min_delay_seconds"),
    ({"max_delay_seconds": 10**9}, "max_delay_seconds"),
    ({"image_url": "file:///etc/passwd"}, "image_url"),
    ({"image_url": "/media/../../etc/passwd"}, "image_url"),
    ({"image_url": "/api/media/1"}, "image_url"),
    ({"image_url": "https://me:secret@a.example/b.jpg"}, "image_url"),
    ({"image_url": "https://"}, "image_url"),
    ({"message_type": "video"}, "message_type"),
    ({"message_type": "poll"}, "message_type"),
    ({"device_strategy": "fastest"}, "device_strategy"),
    ({"device_id": str(uuid4())}, "device_id"),
    ({"device_id": "front-desk"}, "device_id"),
]


async def test_bad_input_is_refused_by_field_and_nothing_is_created(api):
    client = await register(api)
    for fields, wrong in WRONG_FIELDS:
        assert wrong in await create_error(client, **fields), fields
    assert (await client.get("/api/campaigns")).json()["results"] == []


async def test_half_a_character_is_refused_by_field(api):
    client = await register(api)
    for field in ("title", "message", "niche", "image_url"):
        body = json.dumps({"title": "T", "target_status": "prospect", "message": "M", "send_now": True, field: "\ud800"})
        answer = await client.post("/api/campaigns", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 422, field
        assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_all_that_is_wrong_is_said_at_once(api):
    client = await register(api)
    wrong = await create_error(client, title=" ", message="{{x}}", image_url="ftp://a/b", min_delay_seconds=50)
    assert set(wrong) == {"title", "message", "image_url", "min_delay_seconds"}


async def test_what_goes_out_follows_from_the_file(api):
    client = await register(api)
    files = {"image": await upload(client), "video": await upload(client, mp4()), "document": await upload(client, pdf())}
    for kind, url in files.items():
        created = await create(client, message="", image_url=url)
        assert (created["message_type"], created["image_url"], created["message"]) == (kind, url, "")
    path = f"/api/campaigns/{created['id']}"
    assert (await create(client, image_url=files["image"], message_type="document"))["message_type"] == "document"
    for wrong in ("image", "video"):
        errors = await create_error(client, image_url=files["document"], message_type=wrong)
        assert errors == {"message_type": f"cannot be {wrong}: image_url holds a document (application/pdf)"}
    for kind, url in files.items():
        created = (await client.put(path, json={**created, "image_url": url})).json()["results"]
        assert created["message_type"] == kind
    unknown = f"/api/media/{uuid4()}"
    assert (await client.put(path, json={"image_url": unknown})).json()["errors"][0]["field"] == "image_url"
    assert "no media of yours" in (await create_error(client, image_url=unknown))["image_url"]


async def test_a_campaign_can_be_restricted_to_ones_own_device_only(api, sessions):
    client = await register(api)
    device = await add_device(sessions, await user_id_of(sessions))
    assert (await create(client, device_id=str(device)))["device_id"] == str(device)
    await register(api, email="badrul@example.com")
    foreign = await add_device(sessions, await user_id_of(sessions, "badrul@example.com"))
    assert await create_error(client, device_id=str(foreign)) == {"device_id": "is no device of yours"}


async def test_pages_hold_every_campaign_once_latest_first(api):
    client = await register(api)
    made = [(await create(client, scheduled_time=f"{hour:02}:00"))["id"] for hour in (9, 11, 9, 8, 11)]
    seen, cursor, pages = [], None, 0
    while True:
        answer = (await client.get("/api/campaigns", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        seen += [item["id"] for item in answer["results"]]
        pages += 1
        if (cursor := answer["next_cursor"]) is None:
            break
    assert seen == [made[4], made[1], made[2], made[0], made[3]]
    assert pages == 3


async def test_the_next_page_is_also_named_in_headers(api):
    client = await register(api)
    for _ in range(2):
        await create(client)
    answer = await client.get("/api/campaigns?limit=1&status=scheduled")
    assert answer.headers["x-next-cursor"] == answer.json()["next_cursor"]
    following = await client.get(answer.headers["link"].partition("<")[2].partition(">")[0])
    assert len(following.json()["results"]) == 1
    assert "link" not in following.headers


async def test_lists_are_filtered_and_totals_are_those_of_the_filter(api, sessions):
    client = await register(api)
    later = (date.fromisoformat(TOMORROW) + timedelta(days=3)).isoformat()
    first = await create(client, niche="EXSTART, ITADRESS")
    second = await create(client, niche="itadress2", campaign_date=later)
    await set_campaign(sessions, second["id"], status="failed")

    async def listed(**params: str) -> list[int]:
        answer = (await client.get("/api/campaigns", params=params)).json()
        assert answer["totals"]["total"] == len(answer["results"])
        return [item["id"] for item in answer["results"]]

    assert await listed() == [second["id"], first["id"]]
    assert await listed(status="failed") == [second["id"]]
    assert await listed(niche="itadress") == [first["id"]]
    assert await listed(niche="ITADRESS2,other") == [second["id"]]
    assert await listed(niche="ITADR") == []
    assert await listed(date=later) == [second["id"]]
    assert await listed(**{"from": later}) == [second["id"]]
    assert await listed(to=TOMORROW) == [first["id"]]
    assert (await client.get("/api/campaigns")).json()["totals"] == {"total": 2, "pending": 1, "sent": 0, "failed": 1}


WRONG_QUERIES = [
    ("status=done", "status"),
    ("date=today", "date"),
    ("from=2026-02-02&to=2026-02-01", "from"),
    ("date=2026-02-02&to=2026-02-03", "date"),
    ("cursor=x", "cursor"),
    ("limit=0", "limit"),
]


async def test_a_filter_that_cannot_be_read_is_refused_by_name(api):
    client = await register(api)
    for query, field in WRONG_QUERIES:
        answer = await client.get(f"/api/campaigns?{query}")
        assert answer.status_code == 422, query
        assert [error["field"] for error in answer.json()["errors"]] == [field], query


async def test_an_edit_of_one_field_blanks_no_other(api):
    client = await register(api)
    image = await upload(client)
    created = await create(client, niche="EXSTART", image_url=image, scheduled_time="09:00", min_delay_seconds=5)
    answer = await client.put(f"/api/campaigns/{created['id']}", json={"title": "New"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"] == created | {"title": "New", "updated_at": answer.json()["results"]["updated_at"]}
    assert answer.json()["results"]["updated_at"] > created["updated_at"]


async def test_nulls_and_an_empty_time_change_nothing(api):
    client = await register(api)
    created = await create(client, niche="EXSTART", scheduled_time="09:00")
    nothing = dict.fromkeys(["title", "niche", "message", "image_url", "campaign_date", "device_id", "min_delay_seconds"])
    answer = await client.put(f"/api/campaigns/{created['id']}", json=nothing | {"scheduled_time": ""})
    assert answer.json()["results"] == created


async def test_an_empty_text_clears_what_may_be_empty(api, sessions):
    client = await register(api)
    device = await add_device(sessions, await user_id_of(sessions))
    created = await create(client, niche="EXSTART", image_url=await upload(client), device_id=str(device))
    answer = await client.put(f"/api/campaigns/{created['id']}", json={"niche": "", "image_url": "", "device_id": ""})
    edited = answer.json()["results"]
    assert (edited["niche"], edited["image_url"], edited["device_id"], edited["message_type"]) == ("", None, None, "text")
    refused = await client.put(f"/api/campaigns/{created['id']}", json={"message": ""})
    assert refused.status_code == 422


async def test_what_was_read_can_be_written_back_unchanged_in_any_phase(api, sessions, clock):
    client = await register(api)
    created = await create(client, scheduled_time="09:00", image_url=await upload(client))
    clock.advance(timedelta(days=3))  # its date is in the past by now
    client = await log_in(api, email="aisyah@example.com", password=PASSWORD)
    for status in ("scheduled", "sending", "waiting", "paused"):
        await set_campaign(sessions, created["id"], status=status, started_at=None if status == "scheduled" else clock())
        answer = await client.put(f"/api/campaigns/{created['id']}", json=await show(client, created["id"]))
        assert answer.status_code == 200, answer.text


async def test_a_delay_is_checked_against_the_stored_one(api):
    client = await register(api)
    created = await create(client, min_delay_seconds=20, max_delay_seconds=40)
    refused = await client.put(f"/api/campaigns/{created['id']}", json={"max_delay_seconds": 10})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "min_delay_seconds"
    assert (await client.put(f"/api/campaigns/{created['id']}", json={"max_delay_seconds": 20})).status_code == 200
    assert (await show(client, created["id"]))["max_delay_seconds"] == 20


async def test_an_edited_date_keeps_the_time_and_an_edited_time_the_date(api):
    client = await register(api)
    created = await create(client, scheduled_time="09:00")
    later = (date.fromisoformat(TOMORROW) + timedelta(days=3)).isoformat()
    moved = (await client.put(f"/api/campaigns/{created['id']}", json={"campaign_date": later})).json()["results"]
    assert (moved["campaign_date"], moved["scheduled_time"]) == (later, "09:00")
    moved = (await client.put(f"/api/campaigns/{created['id']}", json={"time_schedule": "10:30"})).json()["results"]
    assert (moved["campaign_date"], moved["scheduled_time"]) == (later, "10:30")
    due = datetime.fromisoformat(moved["scheduled_at"]).astimezone(KL)
    assert due.strftime("%Y-%m-%d %H:%M") == f"{later} 10:30"
    past = await client.put(f"/api/campaigns/{created['id']}", json={"campaign_date": "2020-01-01"})
    assert past.status_code == 422


async def test_under_way_content_can_be_edited_and_the_audience_not(api, sessions):
    client = await register(api)
    for status in ("sending", "waiting", "paused"):
        await edit_under_way(client, sessions, status)


async def edit_under_way(client: AsyncClient, sessions: SessionMaker, status: str) -> None:
    created = await create(client)
    await put_under_way(sessions, created["id"], status)
    content = {
        "title": "T",
        "message": "M",
        "image_url": await upload(client),
        "min_delay_seconds": 1,
        "max_delay_seconds": 2,
    }
    answer = await client.put(f"/api/campaigns/{created['id']}", json=content)
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"]["message_type"] == "image"
    for fixed in ({"niche": "X"}, {"target_status": "customer"}, {"device_strategy": "owner"}, {"scheduled_time": "23:59"}):
        refused = await client.put(f"/api/campaigns/{created['id']}", json=fixed | {"title": "not this"})
        assert refused.status_code == 409
        assert next(iter(fixed)) in refused.json()["detail"]
    assert (await show(client, created["id"]))["title"] == "T"


async def test_an_unknown_field_is_refused_in_every_text_and_phase(api, sessions):
    client = await register(api)
    created = await create(client)
    captioned = await create(client, image_url=await upload(client))
    await put_under_way(sessions, captioned["id"])
    for campaign in (created, captioned):
        refused = await client.put(f"/api/campaigns/{campaign['id']}", json={"message": "Hi {{nama}}"})
        assert refused.status_code == 422
        assert [error["field"] for error in refused.json()["errors"]] == ["message"]
        assert (await show(client, campaign["id"]))["message"] == "Hi {{name}}"
    assert set(await create_error(client, image_url=captioned["image_url"], message="{Hi|{{x}}}")) == {"message"}


async def test_paused_before_its_start_everything_can_be_edited(api):
    client = await register(api)
    created = await create(client)
    await client.post(f"/api/campaigns/{created['id']}/pause")
    answer = await client.put(f"/api/campaigns/{created['id']}", json={"niche": "X", "scheduled_time": "23:59"})
    assert answer.status_code == 200
    assert answer.json()["results"]["status"] == "paused"


async def test_after_the_end_nothing_can_be_edited(api, sessions):
    client = await register(api)
    created = await create(client)
    for status in ("sent", "failed", "cancelled"):
        await set_campaign(sessions, created["id"], status=status)
        refused = await client.put(f"/api/campaigns/{created['id']}", json={"title": "New"})
        assert refused.status_code == 409
        assert status in refused.json()["detail"]


async def test_edits_at_the_same_moment_both_take_effect(api):
    client = await register(api)
    created = await create(client)
    path = f"/api/campaigns/{created['id']}"
    answers = await asyncio.gather(
        client.put(path, json={"title": "New"}), client.put(path, json={"message": "Hello"}), client.post(f"{path}/pause")
    )
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    shown = await show(client, created["id"])
    assert (shown["title"], shown["message"], shown["status"]) == ("New", "Hello", "paused")


async def test_a_deleted_campaign_is_gone_for_its_owner_and_its_messages_stay(api, sessions, clock):
    client = await register(api)
    created = await create(client)
    device = await add_device(sessions, await user_id_of(sessions))
    await add_messages(sessions, created, device, ["sent", "pending"])
    await put_under_way(sessions, created["id"])
    assert (await client.delete(f"/api/campaigns/{created['id']}")).status_code == 200
    assert (await client.get(f"/api/campaigns/{created['id']}")).status_code == 404
    assert (await client.delete(f"/api/campaigns/{created['id']}")).status_code == 404
    assert (await client.get("/api/campaigns")).json()["results"] == []
    async with sessions() as session:
        row = (await session.scalars(select(Campaign).where(Campaign.id == created["id"]))).one()
        assert (row.status, row.deleted_at is not None) == ("cancelled", True)
        assert await session.scalar(select(func.count()).select_from(BroadcastMessage)) == 2


async def test_deleting_an_ended_campaign_keeps_how_it_ended_and_drops_its_open_retries(api, sessions):
    client = await register(api)
    created = await create(client)
    device = await add_device(sessions, await user_id_of(sessions))
    await add_messages(sessions, created, device, ["sent", "failed"])
    await put_under_way(sessions, created["id"], "sent")
    assert (await client.post(f"/api/campaigns/{created['id']}/retry-failed")).json()["results"] == {"retried": 1}
    await client.delete(f"/api/campaigns/{created['id']}")
    async with sessions() as session:
        assert (await session.scalars(select(Campaign.status))).one() == "sent"
        assert (await session.scalars(select(CampaignRetry.done_at))).one() is not None


EVERY_PATH = [
    ("GET", "", None),
    ("PUT", "", {"title": "Mine"}),
    ("DELETE", "", None),
    ("GET", "/preflight", None),
    ("POST", "/start", None),
    ("POST", "/pause", None),
    ("POST", "/resume", None),
    ("POST", "/cancel", None),
    ("POST", "/reschedule", {"campaign_date": TOMORROW}),
    ("POST", "/copy", None),
    ("GET", "/preview", None),
    ("POST", "/test", {"phone": "0123456789"}),
    ("POST", "/retry-failed", None),
    ("POST", "/device/{device}/retry-failed", None),
    ("POST", "/messages/{message}/retry", None),
    ("GET", "/device-report", None),
    ("GET", "/device/{device}/leads", None),
    ("GET", "/messages", None),
]


async def test_someone_elses_campaign_does_not_exist(api, sessions):
    owner = await register(api)
    created = await create(owner)
    device = await add_device(sessions, UUID(created["user_id"]))
    [message] = await add_messages(sessions, created, device, ["failed"])
    before = await show(owner, created["id"])
    other = await register(api, email="badrul@example.com")
    for method, path, body in EVERY_PATH:
        url = f"/api/campaigns/{created['id']}{path.format(device=device, message=message)}"
        answer = await other.request(method, url, json=body)
        missing = await other.request(method, url.replace(str(created["id"]), "987654", 1), json=body)
        assert answer.status_code == missing.status_code == 404, (method, path)
        assert answer.json() == missing.json(), (method, path)
        assert (await api.request(method, url, json=body)).status_code == 401, (method, path)
    assert await show(owner, created["id"]) == before
    assert (await other.get("/api/campaigns")).json()["results"] == []


async def test_an_id_that_no_column_holds_is_refused(api):
    client = await register(api)
    assert (await client.get(f"/api/campaigns/{2**63}")).status_code == 422
    assert (await client.get("/api/campaigns/0")).status_code == 422
    assert (await client.get("/api/campaigns/abc")).status_code == 422


async def test_a_campaign_is_created_and_paused_while_temporal_is_away(api, app, monkeypatch):
    async def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("connection refused")

    client = await register(api)
    monkeypatch.setattr(app.state.context.temporal, "start_workflow", refuse)
    created = await create(client)
    assert (await client.post(f"/api/campaigns/{created['id']}/pause")).json()["results"]["status"] == "paused"


async def test_the_protection_of_a_campaign_is_set_changed_and_lifted(api):
    client = await register(api)
    created = await create(client, canary_size=50, stop_failed_percent=5, stop_opted_out_percent=2)
    path = f"/api/campaigns/{created['id']}"
    assert (created["canary_size"], created["stop_failed_percent"], created["stop_opted_out_percent"]) == (50, 5, 2)

    edited = (await client.put(path, json={"stop_failed_percent": 0, "canary_size": ""})).json()["results"]

    assert (edited["canary_size"], edited["stop_failed_percent"], edited["stop_opted_out_percent"]) == (50, None, 2)
    errors = await create_error(client, canary_size=-1, stop_failed_percent=101, stop_opted_out_percent="many")
    assert set(errors) == {"canary_size", "stop_failed_percent", "stop_opted_out_percent"}
