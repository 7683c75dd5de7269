"""Webhooks through the API: their secrets, their limits, their owners, and the log of deliveries."""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx import AsyncClient
from sqlalchemy import select, update
from temporalio.client import Client

from siaran.contracts import webhook_workflow_id
from siaran.db import SessionMaker
from siaran.models import DeliveryStatus, Webhook, WebhookDelivery
from siaran.settings import Settings
from siaran.webhook_events import Announcement, WebhookEvent, announce
from siaran.webhooks import MOST_WEBHOOKS
from tests.api.conftest import register

URL = "https://93.184.215.14/hook"
"""An address that needs no looking up; nothing is sent in these tests."""


@pytest.fixture
async def aisyah(api: AsyncClient) -> AsyncClient:
    return await register(api)


@pytest.fixture
async def stranger(api: AsyncClient) -> AsyncClient:
    return await register(api, email="other@example.com", full_name="Other")


async def add(client: AsyncClient, url: str = URL, **fields: object) -> dict[str, Any]:
    """Add a webhook; returns it with its secret."""
    answer = await client.post("/api/webhooks", json={"url": url, "events": ["message"], **fields})
    assert answer.status_code == 201, answer.text
    results: dict[str, Any] = answer.json()["results"]
    return results


async def read(client: AsyncClient, path: str, **params: str) -> Any:
    answer = await client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


def path_of(webhook: dict[str, Any], *parts: object) -> str:
    return "/".join(["/api/webhooks", webhook["id"], *map(str, parts)])


@pytest.fixture
async def webhook(aisyah: AsyncClient) -> dict[str, Any]:
    return await add(aisyah)


@pytest.fixture
async def deliveries(webhook: dict[str, Any], sessions: SessionMaker) -> list[int]:
    """Three deliveries: the first has failed, the second is delivered, the third pending."""
    async with sessions.begin() as session:
        user_id: UUID = (await session.get_one(Webhook, UUID(webhook["id"]))).user_id
        news = [Announcement(user_id, WebhookEvent.MESSAGE, {"message": f"Salam {number}"}) for number in range(3)]
        await announce(session, news)
        ids = list(await session.scalars(select(WebhookDelivery.id).order_by(WebhookDelivery.id)))
        for delivery, status in zip(ids, (DeliveryStatus.FAILED, DeliveryStatus.DELIVERED), strict=False):
            await session.execute(update(WebhookDelivery).where(WebhookDelivery.id == delivery).values(status=status, tries=2))
    return ids


async def test_the_secret_is_shown_when_it_is_made_and_never_again(aisyah: AsyncClient) -> None:
    made = await add(aisyah, events=["message", "receipt", "message"])

    assert made["secret"].startswith("whsec_")
    assert len(made["secret"]) > 40
    assert made["events"] == ["message", "receipt"]
    assert made["is_active"] is True
    for results in (await read(aisyah, path_of(made)), (await read(aisyah, "/api/webhooks"))[0]):
        assert results == {name: value for name, value in made.items() if name != "secret"}


async def test_a_new_secret_replaces_the_old_one(aisyah: AsyncClient, webhook: dict[str, Any], sessions: SessionMaker) -> None:
    answer = await aisyah.post(path_of(webhook, "secret"))
    assert answer.status_code == 200
    rotated = answer.json()["results"]
    assert rotated["secret"] != webhook["secret"]
    async with sessions() as session:
        assert (await session.get_one(Webhook, UUID(webhook["id"]))).secret == rotated["secret"]


async def test_a_webhook_is_changed_in_what_is_named_alone(aisyah: AsyncClient, webhook: dict[str, Any]) -> None:
    answer = await aisyah.put(path_of(webhook), json={"events": ["receipt"]})
    assert answer.status_code == 200
    changed = answer.json()["results"]
    assert (changed["url"], changed["events"], changed["is_active"]) == (URL, ["receipt"], True)
    assert "secret" not in changed
    changed = (await aisyah.put(path_of(webhook), json={"is_active": False})).json()["results"]
    assert (changed["events"], changed["is_active"]) == (["receipt"], False)


async def test_a_deleted_webhook_is_gone(aisyah: AsyncClient, webhook: dict[str, Any]) -> None:
    assert (await aisyah.delete(path_of(webhook))).status_code == 200
    assert (await aisyah.get(path_of(webhook))).status_code == 404
    assert await read(aisyah, "/api/webhooks") == []


async def test_webhooks_come_in_pages_oldest_first_up_to_a_limit(aisyah: AsyncClient) -> None:
    made = [(await add(aisyah, f"{URL}/{number}"))["url"] for number in range(MOST_WEBHOOKS)]

    answer = await aisyah.post("/api/webhooks", json={"url": URL, "events": ["message"]})
    assert answer.status_code == 409
    assert answer.json()["code"] == "CONFLICT"

    first = (await aisyah.get("/api/webhooks", params={"limit": 6})).json()
    second = (await aisyah.get("/api/webhooks", params={"limit": 6, "cursor": first["next_cursor"]})).json()
    assert [row["url"] for row in first["results"] + second["results"]] == made
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "ftp://example.com", "events": ["message"]}, "url"),
        ({"url": "https://user:secret@example.com", "events": ["message"]}, "url"),
        ({"url": "example.com/hook", "events": ["message"]}, "url"),
        ({"url": "http://999.999.999.999/", "events": ["message"]}, "url"),
        ({"url": "https://example.com/" + "x" * 3_000, "events": ["message"]}, "url"),
        ({"events": ["message"]}, "url"),
        ({"url": URL, "events": []}, "events"),
        ({"url": URL, "events": ["ping"]}, "events.0"),
        ({"url": URL, "events": ["message", "nothing.known"]}, "events.1"),
        ({"url": URL}, "events"),
    ],
)
async def test_bad_input_is_refused_and_named(aisyah: AsyncClient, body: dict[str, Any], field: str) -> None:
    answer = await aisyah.post("/api/webhooks", json=body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert await read(aisyah, "/api/webhooks") == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/hook",
        "http://localhost:8000/hook",
        "http://10.1.2.3/",
        "http://192.168.1.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://0.0.0.0/",
        "http://2130706433/",
    ],
)
async def test_private_addresses_are_refused(aisyah: AsyncClient, webhook: dict[str, Any], url: str) -> None:
    for answer in (
        await aisyah.post("/api/webhooks", json={"url": url, "events": ["message"]}),
        await aisyah.put(path_of(webhook), json={"url": url}),
    ):
        assert answer.status_code == 422
        assert [error["field"] for error in answer.json()["errors"]] == ["url"]
    assert [row["url"] for row in await read(aisyah, "/api/webhooks")] == [URL]


async def test_a_host_that_cannot_be_found_yet_is_left_to_the_deliveries(aisyah: AsyncClient) -> None:
    assert (await add(aisyah, "https://nowhere.invalid/hook"))["url"] == "https://nowhere.invalid/hook"


class TestWherePrivateAddressesAreAllowed:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"allow_private_targets": True})

    async def test_they_are_taken(self, aisyah: AsyncClient) -> None:
        assert (await add(aisyah, "http://127.0.0.1:8000/hook"))["url"] == "http://127.0.0.1:8000/hook"


async def test_the_log_comes_in_pages_newest_first_and_by_status(
    aisyah: AsyncClient, webhook: dict[str, Any], deliveries: list[int]
) -> None:
    failed, delivered, pending = deliveries
    page = (await aisyah.get(path_of(webhook, "deliveries"), params={"limit": 2})).json()
    assert [row["id"] for row in page["results"]] == [pending, delivered]
    rest = (await aisyah.get(path_of(webhook, "deliveries"), params={"cursor": page["next_cursor"]})).json()
    assert [row["id"] for row in rest["results"]] == [failed]
    assert rest["next_cursor"] is None
    for status, delivery in (("failed", failed), ("delivered", delivered), ("pending", pending)):
        assert [row["id"] for row in await read(aisyah, path_of(webhook, "deliveries"), status=status)] == [delivery]
    answer = await aisyah.get(path_of(webhook, "deliveries"), params={"status": "lost"})
    assert [error["field"] for error in answer.json()["errors"]] == ["status"]


async def test_one_delivery_shows_its_body(aisyah: AsyncClient, webhook: dict[str, Any], deliveries: list[int]) -> None:
    shown = await read(aisyah, path_of(webhook, "deliveries", deliveries[0]))
    assert json.loads(shown["body"]) == {"event": "message", "data": {"message": "Salam 0"}}
    assert (shown["event"], shown["status"], shown["tries"], shown["next_try_at"]) == ("message", "failed", 2, None)


async def test_any_delivery_can_be_sent_again_as_a_new_one_of_the_same_body(
    aisyah: AsyncClient, webhook: dict[str, Any], deliveries: list[int], temporal_client: Client
) -> None:
    for old in deliveries:
        answer = await aisyah.post(path_of(webhook, "deliveries", old, "resend"))
        assert answer.status_code == 202, answer.text
        again = answer.json()["results"]
        assert again["id"] not in deliveries
        assert (again["resend_of"], again["status"], again["tries"]) == (old, "pending", 0)
        bodies = [(await read(aisyah, path_of(webhook, "deliveries", one)))["body"] for one in (old, again["id"])]
        assert bodies[0] == bodies[1]
    description = await temporal_client.get_workflow_handle(webhook_workflow_id(webhook["id"])).describe()
    assert description.workflow_type == "WebhookWorkflow"


async def test_a_ping_is_a_delivery_of_its_own(aisyah: AsyncClient, webhook: dict[str, Any]) -> None:
    answer = await aisyah.post(path_of(webhook, "ping"))
    assert answer.status_code == 202, answer.text
    ping = answer.json()["results"]
    assert (ping["event"], ping["status"]) == ("ping", "pending")
    assert [row["id"] for row in await read(aisyah, path_of(webhook, "deliveries"))] == [ping["id"]]


async def test_nothing_is_sent_to_one_that_is_switched_off(
    aisyah: AsyncClient, webhook: dict[str, Any], deliveries: list[int]
) -> None:
    await aisyah.put(path_of(webhook), json={"is_active": False})
    for path in (path_of(webhook, "ping"), path_of(webhook, "deliveries", deliveries[0], "resend")):
        answer = await aisyah.post(path)
        assert (answer.status_code, answer.json()["code"]) == (409, "CONFLICT")
    assert len(await read(aisyah, path_of(webhook, "deliveries"))) == 3


async def test_a_new_address_gets_what_is_pending_at_once(
    aisyah: AsyncClient, webhook: dict[str, Any], deliveries: list[int], sessions: SessionMaker
) -> None:
    pending = deliveries[2]
    async with sessions.begin() as session:
        row = await session.get_one(WebhookDelivery, pending)
        row.try_at, row.tries = row.try_at.replace(year=row.try_at.year + 1), 5
    assert (await read(aisyah, path_of(webhook, "deliveries", pending)))["next_try_at"] is not None

    await aisyah.put(path_of(webhook), json={"url": f"{URL}/new"})

    async with sessions() as session:
        row = await session.get_one(WebhookDelivery, pending)
        assert row.try_at == row.created_at


async def test_another_user_s_webhooks_are_not_found(
    aisyah: AsyncClient, stranger: AsyncClient, webhook: dict[str, Any], deliveries: list[int]
) -> None:
    own = await add(stranger)
    one = path_of(webhook, "deliveries", deliveries[0])
    answers = [
        await stranger.get(path_of(webhook)),
        await stranger.put(path_of(webhook), json={"is_active": False}),
        await stranger.delete(path_of(webhook)),
        await stranger.post(path_of(webhook, "secret")),
        await stranger.post(path_of(webhook, "ping")),
        await stranger.get(path_of(webhook, "deliveries")),
        await stranger.get(one),
        await stranger.post(f"{one}/resend"),
        await stranger.get(path_of(own, "deliveries", deliveries[0])),
        await stranger.post(path_of(own, "deliveries", deliveries[0], "resend")),
        await aisyah.get(f"/api/webhooks/{uuid4()}"),
    ]
    assert [answer.status_code for answer in answers] == [404] * len(answers)
    assert [row["id"] for row in await read(stranger, "/api/webhooks")] == [own["id"]]
    assert (await read(aisyah, path_of(webhook))) == {name: value for name, value in webhook.items() if name != "secret"}
    assert len(await read(aisyah, path_of(webhook, "deliveries"))) == 3


async def test_a_key_that_may_only_read_changes_nothing(aisyah: AsyncClient, webhook: dict[str, Any], api: AsyncClient) -> None:
    answer = await aisyah.post("/api/api-keys", json={"name": "reader", "scopes": ["read"]})
    key = answer.json()["results"]["key"]
    headers = {"Authorization": f"Bearer {key}"}
    assert (await api.get(path_of(webhook), headers=headers)).status_code == 200
    assert (await api.post(path_of(webhook, "secret"), headers=headers)).status_code == 403
