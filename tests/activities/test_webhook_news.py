"""What webhooks are told of, by those who write it down: messages, receipts, failures, opt-outs, campaigns, devices."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import event, select
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from activities.campaigns import CampaignActivities
from activities.resources import Resources
from siaran.contracts import CampaignInput
from siaran.devices import delete_device
from siaran.gateway.interface import DeviceState, Incoming, ReceiptKind, ReceivedMedia, StateChanged
from siaran.incoming import take_in
from siaran.ledger.moves import give_up_batch
from siaran.linking import log_out
from siaran.models import MessageStatus, TransportKind, User, Webhook, WebhookDelivery
from siaran.opt_outs import add_opt_outs
from siaran.webhook_events import WebhookEvent, default_target
from siaran.webhooks import WebhookChanges, add_webhook
from tests.factories import NOW, add_device, add_user, after
from tests.ledger.driver import Ledger, receipt_of, record_of, whatsapp_id
from worker.device_news import DeviceNews

PHONE = "60123456701"
AT = "2026-03-02T01:00:00.000Z"


class Ears:
    """A webhook of the ledger's user that is told of everything."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    async def subscribe(self, *events: WebhookEvent, user: User | None = None) -> Webhook:
        async with self.ledger.sessions.begin() as session:
            user = user or self.ledger.user
            return await add_webhook(
                session, user.id, WebhookChanges("http://127.0.0.1:1/", events or list(WebhookEvent), True)
            )

    async def heard(self, kind: str = "") -> list[dict[str, Any]]:
        """What would be sent, in its order."""
        async with self.ledger.sessions() as session:
            rows = await session.scalars(select(WebhookDelivery).order_by(WebhookDelivery.id))
            bodies = [json.loads(row.body) for row in rows]
        return [body for body in bodies if not kind or body["event"] == kind]

    async def take_in(self, *events: Incoming, defaults: Sequence[str] = ()) -> None:
        async with self.ledger.sessions.begin() as session:
            await take_in(session, events, NOW, webhook_defaults=defaults)


@pytest.fixture
async def ears(ledger: Ledger) -> Ears:
    return Ears(ledger)


async def test_a_message_is_told_in_the_form_of_the_original(ears: Ears) -> None:
    await ears.subscribe()
    device = await ears.ledger.device()

    await ears.take_in(Incoming(device.id, PHONE, "Hai, berapa harga? ☕", "wa-1", NOW, sender_name="Ali"))

    (body,) = await ears.heard()
    assert list(body) == ["event", "data"]
    assert body["event"] == "message"
    assert list(body["data"].items())[:4] == [
        ("deviceId", str(device.id)),
        ("from", PHONE),
        ("message", "Hai, berapa harga? ☕"),
        ("timestamp", AT),
    ]
    assert (body["data"]["id"], body["data"]["name"], body["data"]["type"]) == ("wa-1", "Ali", "text")


async def test_messages_are_told_once_and_in_the_order_in_which_they_came(ears: Ears) -> None:
    await ears.subscribe()
    device = await ears.ledger.device()
    file = ReceivedMedia("image", "image/jpeg", "a.jpg", 10, b"")
    events = [
        Incoming(device.id, PHONE, "second by number", "wa-9", NOW),
        Incoming(device.id, PHONE, "first by number", "wa-1", NOW, media=file),
        Incoming(device.id, "60123456700", "third", "wa-2", after(-60)),
    ]
    await ears.take_in(*events)
    await ears.take_in(*events)
    assert [body["data"]["message"] for body in await ears.heard()] == ["second by number", "first by number", "third"]
    assert [body["data"]["type"] for body in await ears.heard()] == ["text", "image", "text"]


async def test_groups_and_the_account_s_own_messages_are_not_told(ears: Ears) -> None:
    await ears.subscribe()
    device = await ears.ledger.device()
    await ears.take_in(
        Incoming(device.id, PHONE, "in a group", "wa-1", NOW, is_personal=False, chat="1@g.us"),
        Incoming(device.id, PHONE, "own", "wa-2", NOW, from_me=True),
    )
    assert await ears.heard() == []


async def test_messages_of_users_without_a_webhook_go_to_each_default_address(ears: Ears) -> None:
    device = await ears.ledger.device()
    addresses = ["https://one.example/", "https://two.example/"]
    await ears.take_in(Incoming(device.id, PHONE, "STOP", "wa-1", NOW), defaults=addresses)
    async with ears.ledger.sessions() as session:
        rows = list(await session.scalars(select(WebhookDelivery).order_by(WebhookDelivery.id)))
    assert [row.target for row in rows] == [default_target(ears.ledger.user.id, address) for address in addresses]
    assert {row.event for row in rows} == {"message"}, "of the opt-out nobody is told"


async def test_what_only_a_removed_device_could_have_sent_is_told_as_failed(ears: Ears) -> None:
    await ears.subscribe(WebhookEvent.MESSAGE_FAILED)
    device = await ears.ledger.device()
    campaign = await ears.ledger.campaign(device_id=device.id)
    ids = await ears.ledger.messages(campaign, device, 2)
    await ears.ledger.change(device, deleted_at=NOW)
    async with ears.ledger.sessions.begin() as session:
        await give_up_batch(session, ears.ledger.user.id, device.id, NOW)

    told = [body["data"] for body in await ears.heard()]
    assert [data["messageId"] for data in told] == ids
    for data in told:
        assert (data["deviceId"], data["campaignId"], data["code"]) == (str(device.id), campaign.id, "device_removed")
        assert (data["retryable"], data["timestamp"]) == (False, AT)
        assert data["reason"] == "The device that had to send this message was removed."


async def test_an_opt_out_is_told_with_its_word_and_once(ears: Ears) -> None:
    await ears.subscribe(WebhookEvent.LEAD_OPTED_OUT)
    device = await ears.ledger.device()
    await ears.take_in(Incoming(device.id, PHONE, "stop!", "wa-1", NOW))
    await ears.take_in(Incoming(device.id, PHONE, "STOP", "wa-2", NOW))
    async with ears.ledger.sessions.begin() as session:
        await add_opt_outs(session, ears.ledger.user.id, [PHONE, "60123456702"], country="MY", now=NOW)
    assert [body["data"] for body in await ears.heard()] == [
        {"phone": PHONE, "word": "STOP", "source": "reply", "timestamp": AT},
        {"phone": "60123456702", "word": None, "source": "manual", "timestamp": AT},
    ]


async def test_an_opt_out_is_told_with_the_word_that_was_written_to_this_user(ears: Ears) -> None:
    device = await ears.ledger.device()
    async with ears.ledger.sessions.begin() as session:
        other = await add_user(session)
        others = await add_device(session, other)
    told = {(await ears.subscribe(user=user)).id: user for user in (ears.ledger.user, other)}

    await ears.take_in(Incoming(device.id, PHONE, "stop", "wa-1", NOW), Incoming(others.id, PHONE, "berhenti", "wa-2", NOW))

    async with ears.ledger.sessions() as session:
        rows = await session.scalars(select(WebhookDelivery).where(WebhookDelivery.event == WebhookEvent.LEAD_OPTED_OUT))
        words = {told[row.webhook_id]: json.loads(row.body)["data"]["word"] for row in rows if row.webhook_id}
    assert words == {ears.ledger.user: "STOP", other: "BERHENTI"}


async def test_receipts_are_told_when_they_say_something_new(ears: Ears) -> None:
    await ears.subscribe()
    ledger = ears.ledger
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)
    claim = await ledger.claimed(device)
    await ledger.record(record_of(claim))
    for receipt in (
        receipt_of(claim, ReceiptKind.DELIVERED, after(1)),
        receipt_of(claim, ReceiptKind.DELIVERED, after(2)),
        receipt_of(claim, ReceiptKind.READ, after(3)),
        receipt_of(claim, ReceiptKind.DELIVERED, after(4)),
    ):
        await ledger.receive(receipt)
    common = {"deviceId": str(device.id), "messageId": claim.message_id, "whatsappId": whatsapp_id(claim)}
    assert [body["data"] for body in await ears.heard("receipt")] == [
        {**common, "status": "delivered", "timestamp": "2026-03-02T01:00:01.000Z"},
        {**common, "status": "read", "timestamp": "2026-03-02T01:00:03.000Z"},
    ]


async def test_a_receipt_that_came_before_its_record_is_told_with_it(ears: Ears) -> None:
    await ears.subscribe()
    ledger = ears.ledger
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)
    claim = await ledger.claimed(device)
    await ledger.receive(receipt_of(claim))
    assert await ears.heard() == []
    await ledger.record(record_of(claim))
    (body,) = await ears.heard()
    assert (body["event"], body["data"]["status"], body["data"]["messageId"]) == ("receipt", "delivered", claim.message_id)


async def test_a_message_that_failed_is_told_with_its_reason_once(ears: Ears) -> None:
    await ears.subscribe()
    ledger = ears.ledger
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device, [PHONE])
    claim = await ledger.claimed(device)
    record = record_of(claim, MessageStatus.FAILED, error_code="not_on_whatsapp", error_message="No account.")
    await ledger.record(record)
    await ledger.record(record)
    (body,) = await ears.heard()
    assert body == {
        "event": "message.failed",
        "data": {
            "deviceId": str(device.id),
            "messageId": claim.message_id,
            "campaignId": campaign.id,
            "sequenceId": None,
            "phone": PHONE,
            "code": "not_on_whatsapp",
            "reason": "No account.",
            "retryable": False,
            "timestamp": AT,
        },
    }


async def test_a_campaign_s_end_is_told_with_its_counts_once(
    ears: Ears, resources: Resources, environment: ActivityEnvironment
) -> None:
    await ears.subscribe(WebhookEvent.CAMPAIGN_COMPLETED)
    ledger = ears.ledger
    campaign, device = await ledger.campaign(title="Raya"), await ledger.device()
    await ledger.messages(campaign, device, 3, status=MessageStatus.SENT)
    await ledger.messages(campaign, device, 1, status=MessageStatus.FAILED)
    plan = CampaignActivities(resources).plan_campaign
    for _ in range(2):
        await environment.run(plan, CampaignInput(campaign.id, campaign.user_id))
    (body,) = await ears.heard()
    assert body == {
        "event": "campaign.completed",
        "data": {
            "campaignId": campaign.id,
            "title": "Raya",
            "status": "sent",
            "counts": {"total": 4, "succeeded": 3, "failed": 1, "suppressed": 0, "cancelled": 0},
            "timestamp": AT,
        },
    }


async def test_devices_are_told_when_they_go_away_and_come_back(ears: Ears, temporal_client: Client, redis: Redis) -> None:
    await ears.subscribe()
    ledger = ears.ledger
    device = await ledger.device()

    async def settle(_device: object, _user: object) -> None:
        """Nothing is open."""

    news = DeviceNews(ledger.host.id, sessions=ledger.sessions, client=temporal_client, clock=lambda: NOW, settle=settle)
    states = (DeviceState.ONLINE, DeviceState.OFFLINE, DeviceState.CONNECTING, DeviceState.ONLINE, DeviceState.BANNED)
    for seconds, state in enumerate(states):
        await news.submit(StateChanged(device.id, state, NOW + timedelta(seconds=seconds)))
    await news.close()
    assert [(body["data"]["before"], body["data"]["status"]) for body in await ears.heard("device.status")] == [
        ("online", "offline"),
        ("connecting", "online"),
        ("online", "banned"),
    ]
    assert (await ears.heard())[0]["data"]["timestamp"] == "2026-03-02T01:00:01.000Z"


@pytest.mark.parametrize("is_deleted", [False, True])
async def test_a_device_that_its_user_logs_out_or_deletes_is_told_once(ears: Ears, is_deleted: bool) -> None:
    await ears.subscribe(WebhookEvent.DEVICE_STATUS)
    device = await ears.ledger.device(transport=TransportKind.WHATSAPP)

    for _ in range(2 - is_deleted):
        async with ears.ledger.sessions.begin() as session:
            if is_deleted:
                await delete_device(session, device.user_id, device.id, NOW, timedelta(minutes=1))
            else:
                await log_out(session, None, device.user_id, device.id, NOW)

    assert [body["data"] for body in await ears.heard()] == [
        {"deviceId": str(device.id), "status": "logged_out", "before": "online", "timestamp": AT}
    ]


async def test_nobody_hears_of_another_user_s_things(ears: Ears) -> None:
    async with ears.ledger.sessions.begin() as session:
        stranger = await add_user(session)
    await ears.subscribe(user=stranger)
    device = await ears.ledger.device()
    await ears.take_in(Incoming(device.id, PHONE, "STOP", "wa-1", NOW))
    assert await ears.heard() == []


@pytest.mark.parametrize("subscribed", [True, False])
async def test_receipts_cost_one_look_and_one_insert_however_many_they_are(
    ears: Ears, engine: AsyncEngine, subscribed: bool
) -> None:
    if subscribed:
        await ears.subscribe()
    ledger = ears.ledger
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device, 50)
    claims = [await ledger.claimed(device)]
    await ledger.record(record_of(claims[0]))
    while (claim := await ledger.claim(device)) is not None:
        claims.append(claim)
        await ledger.record(record_of(claim))
    statements: list[str] = []

    def keep(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", keep)
    await ledger.receive(*(receipt_of(claim) for claim in claims))
    event.remove(engine.sync_engine, "before_cursor_execute", keep)

    of_webhooks = [one for one in statements if "webhook" in one]
    assert len(claims) == 50
    assert len(of_webhooks) == (2 if subscribed else 1)
    assert len(await ears.heard()) == (50 if subscribed else 0)
