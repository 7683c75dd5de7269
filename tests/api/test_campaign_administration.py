"""Administrators look at, pause, resume and retry anyone's campaigns, and it is noted."""

import pytest
from sqlalchemy import select

from siaran.db import SessionMaker
from siaran.models import AuditEntry, CampaignRetry
from tests.api.campaign_rows import add_device, add_messages, create, put_under_way, show, user_id_of
from tests.api.conftest import ADMIN_EMAIL, log_in, register


@pytest.fixture
async def owner(api):
    return await register(api)


@pytest.fixture
async def admin(api):
    return await log_in(api)


async def audit(sessions: SessionMaker) -> list[AuditEntry]:
    async with sessions() as session:
        entries = await session.scalars(
            select(AuditEntry).where(AuditEntry.action.startswith("campaign.")).order_by(AuditEntry.id)
        )
        return list(entries)


async def test_every_users_campaigns_are_listed_with_their_owner(api, owner, admin, sessions):
    first = await create(owner)
    other = await register(api, email="badrul@example.com")
    second = await create(other, niche="EXSTART")
    device = await add_device(sessions, await user_id_of(sessions))
    await add_messages(sessions, first, device, ["sent", "failed"])
    page = (await admin.get("/api/admin/campaigns")).json()
    assert [(item["campaign"]["id"], item["owner_email"]) for item in page["results"]] == [
        (second["id"], "badrul@example.com"),
        (first["id"], "aisyah@example.com"),
    ]
    assert page["results"][1]["campaign"]["counts"]["total"] == 2
    for query in (f"user_id={second['user_id']}", "niche=exstart"):
        found = (await admin.get(f"/api/admin/campaigns?{query}")).json()["results"]
        assert [item["campaign"]["id"] for item in found] == [second["id"]]
    start = (await admin.get("/api/admin/campaigns?limit=1")).json()
    rest = (await admin.get("/api/admin/campaigns", params={"limit": 1, "cursor": start["next_cursor"]})).json()
    assert [item["campaign"]["id"] for item in start["results"] + rest["results"]] == [second["id"], first["id"]]
    assert rest["next_cursor"] is None


async def test_one_campaign_is_shown_with_its_report_and_a_link_to_its_workflow(owner, admin, settings, sessions):
    created = await create(owner)
    found = (await admin.get(f"/api/admin/campaigns/{created['id']}")).json()["results"]
    assert found["campaign"] == created
    assert found["report"]["totalLeads"] == 0
    link = f"/temporal/namespaces/{settings.temporal_namespace}/workflows/campaign:{created['id']}"
    assert found["temporal_url"] == link
    await owner.delete(f"/api/campaigns/{created['id']}")
    assert (await admin.get(f"/api/admin/campaigns/{created['id']}")).json()["results"]["deleted_at"] is not None


async def test_pause_and_resume_are_done_and_noted(owner, admin, sessions):
    created = await create(owner)
    await put_under_way(sessions, created["id"])
    answer = await admin.post(f"/api/admin/campaigns/{created['id']}/pause")
    assert answer.json()["results"]["campaign"]["status"] == "paused"
    assert (await show(owner, created["id"]))["status"] == "paused"
    assert (await admin.post(f"/api/admin/campaigns/{created['id']}/resume")).status_code == 200
    assert (await show(owner, created["id"]))["status"] == "sending"
    entries = await audit(sessions)
    assert [entry.action for entry in entries] == ["campaign.paused", "campaign.resumed"]
    assert {entry.actor_id for entry in entries} == {await user_id_of(sessions, ADMIN_EMAIL)}
    assert {entry.owner_id for entry in entries} == {await user_id_of(sessions)}
    assert {entry.subject for entry in entries} == {f"campaign:{created['id']}"}


async def test_a_retry_is_the_owners_and_remembers_who_asked(owner, admin, sessions):
    created = await create(owner)
    owner_id = await user_id_of(sessions)
    await add_messages(sessions, created, await add_device(sessions, owner_id), ["failed", "failed"])
    await put_under_way(sessions, created["id"], "sent")
    answer = await admin.post(f"/api/admin/campaigns/{created['id']}/retry-failed")
    assert answer.json()["results"] == {"retried": 2}
    async with sessions() as session:
        request = (await session.scalars(select(CampaignRetry))).one()
    assert (request.user_id, request.requested_by) == (owner_id, await user_id_of(sessions, ADMIN_EMAIL))
    [entry] = await audit(sessions)
    assert (entry.action, entry.details) == ("campaign.retried", {"retried": 2})
    assert (await owner.post(f"/api/campaigns/{created['id']}/retry-failed")).json()["results"] == {"retried": 0}


async def test_what_is_refused_is_not_noted(owner, admin, sessions):
    created = await create(owner)
    await owner.post(f"/api/campaigns/{created['id']}/cancel")
    for action in ("pause", "resume", "retry-failed"):
        assert (await admin.post(f"/api/admin/campaigns/{created['id']}/{action}")).status_code == 409
        assert (await admin.post(f"/api/admin/campaigns/987654/{action}")).status_code == 404
    assert await audit(sessions) == []


PATHS = [("GET", ""), ("GET", "/{id}"), ("POST", "/{id}/pause"), ("POST", "/{id}/resume"), ("POST", "/{id}/retry-failed")]


async def test_nobody_else_gets_in_and_owners_paths_know_no_administrators(api, owner, admin):
    created = await create(owner)
    for method, path in PATHS:
        url = "/api/admin/campaigns" + path.format(id=created["id"])
        assert (await owner.request(method, url)).status_code == 403, url
        assert (await api.request(method, url)).status_code == 401, url
        if path:
            assert (await admin.request(method, url.replace("/admin", ""))).status_code == 404, url
