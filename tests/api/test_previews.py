"""Previews of campaigns: what recipients see before and after it was sent."""

from typing import Any
from uuid import UUID

from httpx import AsyncClient
from sqlalchemy import insert, select

from siaran.db import SessionMaker
from siaran.models import BroadcastMessage, Lead, MessageAttempt
from siaran.rendering import render
from tests.api.campaign_rows import add_device, add_leads, add_messages, create, user_id_of
from tests.api.conftest import register
from tests.media_files import mp4, upload

TEXT = "{Hi|Hello|Salam} {{name|friend}}, {{niche}}"


async def preview(client: AsyncClient, campaign_id: int, **params: int) -> dict[str, Any]:
    answer = await client.get(f"/api/campaigns/{campaign_id}/preview", params=params)
    assert answer.status_code == 200, answer.text
    results: dict[str, Any] = answer.json()["results"]
    return results


async def draft(client: AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await client.post("/api/campaigns/preview", json=fields)
    assert answer.status_code == 200, answer.text
    results: dict[str, Any] = answer.json()["results"]
    return results


async def leads_of(sessions: SessionMaker) -> list[Lead]:
    async with sessions() as session:
        return list(await session.scalars(select(Lead).order_by(Lead.id)))


async def test_before_the_start_the_first_leads_that_match_are_shown(api, sessions):
    client = await register(api)
    user = await user_id_of(sessions)
    await add_leads(sessions, user, 1, niche="OTHER")
    await add_leads(sessions, user, 4, niche="EXSTART", suppressed=1)
    campaign = await create(client, message=TEXT, niche="EXSTART", image_url=await upload(client, mp4()))
    shown = await preview(client, campaign["id"], limit=2)
    assert (shown["message_type"], shown["image_url"]) == ("video", campaign["image_url"])
    leads = (await leads_of(sessions))[2:4]
    assert [(item["lead_id"], item["phone"]) for item in shown["recipients"]] == [(lead.id, lead.phone) for lead in leads]
    for item in shown["recipients"]:
        assert item["text"] in {f"{word} Ali, EXSTART" for word in ("Hi", "Hello", "Salam")}
        assert (item["message_id"], item["status"], item["is_final"]) == (None, None, False)
    assert await preview(client, campaign["id"], limit=2) == shown


async def test_a_message_of_the_ledger_is_shown_as_it_will_go_out_and_afterwards_as_it_did(api, sessions):
    client = await register(api)
    user = await user_id_of(sessions)
    device = await add_device(sessions, user)
    campaign = await create(client, message=TEXT)
    [waiting, sent] = await add_messages(sessions, campaign, device, ["pending", "sent"], attempt=1, recipient_niche="X")
    async with sessions.begin() as session:
        attempt = {"message_id": sent, "attempt": 1, "device_id": device, "user_id": user, "host_id": 1, "link_generation": 1}
        content = {"content": "As it was sent", "attempted_at": (await session.get_one(BroadcastMessage, sent)).scheduled_at}
        await session.execute(insert(MessageAttempt).values(**attempt, **content, outcome="sent"))
    first, second = (await preview(client, campaign["id"]))["recipients"]
    phone = first["phone"]
    assert first["text"] == render(TEXT, name="Siti", phone=phone, niche="X", seed=waiting)
    assert (first["message_id"], first["status"], first["is_final"]) == (waiting, "pending", True)
    assert (second["message_id"], second["status"], second["text"], second["is_final"]) == (
        sent,
        "sent",
        "As it was sent",
        True,
    )


async def test_one_lead_can_be_asked_for_with_or_without_a_message(api, sessions):
    client = await register(api)
    user = await user_id_of(sessions)
    await add_leads(sessions, user, 2)
    one, two = await leads_of(sessions)
    campaign = await create(client, message=TEXT)
    [message] = await add_messages(
        sessions, campaign, await add_device(sessions, user), ["pending"], recipient_phone=one.phone, lead_id=one.id
    )
    [shown] = (await preview(client, campaign["id"], lead_id=one.id))["recipients"]
    assert (shown["message_id"], shown["lead_id"]) == (message, one.id)
    [shown] = (await preview(client, campaign["id"], lead_id=two.id))["recipients"]
    assert (shown["message_id"], shown["lead_id"], shown["phone"]) == (None, two.id, two.phone)


async def test_fields_that_are_not_saved_are_shown_for_the_leads_they_would_reach(api, sessions):
    client = await register(api)
    await add_leads(sessions, await user_id_of(sessions), 2, niche="EXSTART", target_status="customer")
    shown = await draft(client, message="Hi {{name}}", niche="exstart", target_status="customer")
    assert [item["text"] for item in shown["recipients"]] == ["Hi Ali", "Hi Ali"]
    assert (shown["message_type"], shown["image_url"]) == ("text", None)
    [example] = (await draft(client, message="Hi {{name}}", target_status="prospect"))["recipients"]
    assert (example["lead_id"], example["text"]) == (None, "Hi Aisyah")
    url = await upload(client)
    assert (await draft(client, image_url=url))["message_type"] == "image"
    assert (await draft(client, image_url=url, message_type="document"))["message_type"] == "document"
    assert (await draft(client, image_url="https://nowhere.invalid/a.jpg"))["message_type"] == "image"
    assert (await client.get("/api/campaigns")).json()["results"] == []


async def test_bad_input_is_refused_by_field(api):
    client = await register(api)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"message": "Hi {{nama}}"}, "message"),
        ({"target_status": "all"}, "target_status"),
        ({"image_url": "ftp://a"}, "image_url"),
        ({"image_url": f"/api/media/{UUID(int=1)}"}, "image_url"),
        ({"limit": 0}, "limit"),
        ({"limit": 21}, "limit"),
        ({"lead_id": 0}, "lead_id"),
    ]
    for fields, field in wrong:
        answer = await client.post("/api/campaigns/preview", json=fields)
        assert answer.status_code == 422, fields
        assert [error["field"] for error in answer.json()["errors"]] == [field], fields
    campaign = await create(client)
    for query in ("lead_id=x", "limit=99"):
        assert (await client.get(f"/api/campaigns/{campaign['id']}/preview?{query}")).status_code == 422


async def test_nobody_elses_leads_or_campaigns_are_shown(api, sessions):
    owner, other = await register(api), await register(api, email="badrul@example.com")
    await add_leads(sessions, await user_id_of(sessions), 1)
    [lead] = await leads_of(sessions)
    theirs, mine = await create(owner), await create(other)
    assert (await other.get(f"/api/campaigns/{theirs['id']}/preview")).status_code == 404
    assert (await other.get(f"/api/campaigns/{mine['id']}/preview?lead_id={lead.id}")).status_code == 404
    assert (await other.post("/api/campaigns/preview", json={"lead_id": lead.id})).status_code == 404
    [shown] = (await preview(other, mine["id"]))["recipients"]
    assert shown["lead_id"] is None
