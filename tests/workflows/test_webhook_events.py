"""What happens to a user's things reaches a webhook by itself, from the hosts and from the worker, within seconds."""

from collections import Counter

from redis.asyncio import Redis
from temporalio.client import Client

from siaran.db import SessionMaker
from siaran.settings import Settings
from siaran.webhook_events import WebhookEvent
from siaran.webhooks import WebhookChanges, add_webhook
from tests.waiting import eventually
from tests.webhook_receivers import webhook_receiver
from tests.workflows.house import open_house


async def test_a_campaign_its_receipts_and_what_contacts_answer_reach_a_webhook(
    settings: Settings, sessions: SessionMaker, redis: Redis, temporal_client: Client
) -> None:
    settings = settings.model_copy(update={"allow_private_targets": True})
    async with (
        webhook_receiver() as receiver,
        open_house(settings, sessions, redis, temporal_client, devices=1, leads=3) as house,
    ):
        async with sessions.begin() as session:
            changes = WebhookChanges(receiver.url, list(WebhookEvent), is_active=True)
            await add_webhook(session, house.ledger.user.id, changes)
        (device,) = house.devices

        campaign = await house.campaign(message="Hai {{name}}", min_delay_seconds=0, max_delay_seconds=0)
        await house.end_of(campaign)
        await eventually(lambda: Counter(receiver.events) >= Counter({"receipt": 3, "campaign.completed": 1}))
        receipts = [request.json["data"] for request in receiver.got if request.json["event"] == "receipt"]
        assert {receipt["status"] for receipt in receipts} == {"delivered"}
        assert len({receipt["messageId"] for receipt in receipts}) == 3

        receiver.got.clear()
        await house.network.reply(device.id, house.leads[0].phone, "STOP")
        await eventually(lambda: {"message", "lead.opted_out"} <= set(receiver.events))
        messages = {request.json["event"]: request.json["data"] for request in receiver.got}
        assert (messages["message"]["from"], messages["message"]["message"]) == (house.leads[0].phone, "STOP")
        assert (messages["lead.opted_out"]["phone"], messages["lead.opted_out"]["word"]) == (house.leads[0].phone, "STOP")

        receiver.got.clear()
        await house.network.drop(device.id)
        await eventually(lambda: "device.status" in receiver.events)
        assert receiver.data[receiver.events.index("device.status")]["status"] == "offline"
        await house.network.restore(device.id)
        await eventually(lambda: "online" in [data.get("status") for data in receiver.data])

        receiver.got.clear()
        await house.network.configure(failure_rate=1, failure_codes={"rejected_479": 1})
        await house.end_of(await house.campaign(message="Hai {{name}}", min_delay_seconds=0, max_delay_seconds=0))
        await eventually(lambda: receiver.events.count("message.failed") == 2, within=20)


async def test_the_installation_s_address_hears_of_messages_to_users_without_a_webhook(
    settings: Settings, sessions: SessionMaker, redis: Redis, temporal_client: Client
) -> None:
    async with webhook_receiver() as first, webhook_receiver() as second:
        addresses = f"{first.url}, {second.url}"
        settings = settings.model_copy(update={"allow_private_targets": True, "webhook": addresses})
        async with open_house(settings, sessions, redis, temporal_client, devices=1, leads=1) as house:
            await house.network.reply(house.devices[0].id, house.leads[0].phone, "Berapa harga?")
            for receiver in (first, second):
                (request,) = await receiver.has_got(1)
                assert request.json["data"]["message"] == "Berapa harga?"
                assert "x-hub-signature-256" not in request.headers, "there is no secret to sign with"
