"""What follows a change of a sequence: workflows that are started or told, lanes that are woken, files that are fetched."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpx import AsyncClient
from temporalio.client import Client, WorkflowHandle

from api.app import create_app
from siaran.contracts import device_workflow_id, enrollment_workflow_id, sequence_workflow_id
from siaran.db import SessionMaker
from siaran.settings import Settings
from tests.api.campaign_rows import add_device, user_id_of
from tests.api.conftest import another_client, register
from tests.api.sequence_rows import add_contact, add_message, contacts, create, enroll, set_contact
from tests.media_files import WebServer, open_web_server, png


async def kind_of(temporal_client: Client, workflow_id: str) -> str | None:
    return (await temporal_client.get_workflow_handle(workflow_id).describe()).workflow_type


async def test_a_sequence_has_its_workflow(api: AsyncClient, temporal_client: Client):
    made = await create(await register(api))
    assert await kind_of(temporal_client, sequence_workflow_id(made["id"])) == "SequenceWorkflow"


async def test_a_new_lead_and_an_edited_one_are_looked_for_at_once(api: AsyncClient, temporal_client: Client):
    client = await register(api)
    made = await create(client, status="active")
    handle = temporal_client.get_workflow_handle(sequence_workflow_id(made["id"]))
    before = await signals_of(handle)
    lead = (await client.post("/api/leads", json={"name": "Siti", "phone": "0123456789"})).json()["results"]["id"]
    assert await signals_of(handle) == before + 1
    await client.put(f"/api/leads/{lead}", json={"niche": "EXSTART"})
    assert await signals_of(handle) == before + 2


async def signals_of(handle: WorkflowHandle[Any, Any]) -> int:
    events = (await handle.fetch_history()).events
    return sum(event.HasField("workflow_execution_signaled_event_attributes") for event in events)


async def test_a_contact_that_is_steered_has_its_workflow(api: AsyncClient, sessions: SessionMaker, temporal_client: Client):
    client = await register(api)
    made = await create(client, status="active")
    await enroll(client, made, "0123456789")
    row = (await contacts(client, made))[0]
    await client.post(f"/api/sequences/{made['id']}/contacts/{row['id']}/skip")
    assert await kind_of(temporal_client, enrollment_workflow_id(made["id"], row["lead_id"])) == "EnrollmentWorkflow"


async def test_a_retry_reaches_a_contact_whose_walk_is_over(api: AsyncClient, sessions: SessionMaker, temporal_client: Client):
    client = await register(api)
    made = await create(client, status="active")
    device = await add_device(sessions, await user_id_of(sessions))
    contact = await add_contact(sessions, made, lead_id=4711)
    await add_message(sessions, made, contact, device, 1, "failed")
    await set_contact(sessions, contact, status="completed")
    await client.post(f"/api/sequences/{made['id']}/retry-failed")
    handle = temporal_client.get_workflow_handle(enrollment_workflow_id(made["id"], 4711))
    history = await handle.fetch_history()
    signals = [event.workflow_execution_signaled_event_attributes for event in history.events]
    assert [signal.signal_name for signal in signals if signal.signal_name] == ["retry_failed"]


async def test_going_on_wakes_the_lanes_that_have_messages_of_it(
    api: AsyncClient, sessions: SessionMaker, temporal_client: Client
):
    client = await register(api)
    made = await create(client, status="active")
    device = await add_device(sessions, await user_id_of(sessions))
    contact = await add_contact(sessions, made)
    await add_message(sessions, made, contact, device, 1, "pending")
    await client.post(f"/api/sequences/{made['id']}/pause")
    await client.post(f"/api/sequences/{made['id']}/start")
    assert await kind_of(temporal_client, device_workflow_id(device)) == "DeviceWorkflow"


@pytest.fixture
async def web() -> AsyncIterator[WebServer]:
    """A web server on loopback."""
    async with open_web_server() as web:
        yield web


@pytest.fixture
async def intranet(api: AsyncClient, settings: Settings) -> AsyncIterator[AsyncClient]:
    """Somebody who is logged in where private targets are allowed."""
    app = create_app(settings.model_copy(update={"allow_private_targets": True}))
    async with app.router.lifespan_context(app):
        client = another_client(api)
        client._transport = type(api._transport)(app)  # type: ignore[call-arg]  # the ASGI transport of httpx
        yield await register(client)


async def test_the_file_of_a_step_is_fetched_once_and_only_if_all_else_is_right(intranet: AsyncClient, web: WebServer):
    url = web.serve("/promo.png", png())
    steps = [{"day": 1, "image_url": url, "content": "Hi"}, {"day": 2, "image_url": url}, {"day": 3, "content": "{{nope}}"}]
    answer = await intranet.post("/api/sequences", json={"name": "Promo", "steps": steps})
    assert answer.status_code == 422
    assert web.asked == []
    made = await create(intranet, steps=steps[:2])
    first, second = made["steps"]
    assert first["image_url"].startswith("/api/media/")
    assert (first["image_url"], first["message_type"]) == (second["image_url"], "image")
    answer = await intranet.put(f"/api/sequences/{made['id']}", json={"steps": steps[:2], "name": "Another"})
    assert answer.json()["results"]["steps"] == made["steps"]
    assert web.asked == ["/promo.png"]
    steps[1]["image_url"] = f"{web.url}/none.png"
    answer = await intranet.put(f"/api/sequences/{made['id']}", json={"steps": steps[:2]})
    assert [error["field"] for error in answer.json()["errors"]] == ["steps.1.image_url"]


async def test_a_file_that_a_step_carries_is_not_deleted(api: AsyncClient):
    client = await register(api)
    file = await client.post("/api/media", files={"file": ("promo.png", png(), "image/png")})
    media = file.json()["results"]["url"]
    made = await create(client, steps=[{"day": 1, "image_url": media}])
    assert (await client.delete(media)).status_code == 409
    await client.delete(f"/api/sequences/{made['id']}")
    assert (await client.delete(media)).status_code == 200
