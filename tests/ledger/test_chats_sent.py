"""What Siaran has sent stands in the chats, once, whoever finds out that it was sent; the ledger says how far it got."""

import asyncio
from datetime import timedelta

import pytest

from siaran.gateway.interface import ReceiptKind
from siaran.ledger.settlement import note_whatsapp_id
from siaran.models import MessageStatus
from tests.factories import NOW, add_one_off, after
from tests.ledger.chat_desk import ChatDesk
from tests.ledger.driver import Ledger, receipt_of, record_of, whatsapp_id


@pytest.fixture
async def desk(ledger: Ledger) -> ChatDesk:
    desk = ChatDesk(ledger)
    await desk.open()
    return desk


async def test_what_a_campaign_has_sent_stands_in_the_contacts_chat(desk: ChatDesk) -> None:
    campaign = await desk.ledger.campaign(message="Hi {{name}}", message_type="image", image_url="/api/media/1")
    await desk.ledger.messages(campaign, desk.device, [desk.contact])
    claim = await desk.ledger.claimed(desk.device)
    began_at = after(0) + timedelta(milliseconds=700)

    await desk.record(record_of(claim, began_at=began_at, at=after(3)))

    [line] = await desk.lines()
    assert (line.id, line.text, line.is_outgoing, line.status) == (whatsapp_id(claim), "Hi Ali", True, "sent")
    assert (line.media_type, line.media_url, line.media_state) == ("image", "/api/media/1", None)
    chat = await desk.chat()
    assert (chat.id, chat.last_message, chat.last_message_at) == (desk.contact, "Hi Ali", NOW)
    assert (line.sent_at, chat.unread) == (NOW, 0)


async def test_ticks_are_those_of_the_ledger(desk: ChatDesk) -> None:
    campaign = await desk.ledger.campaign()
    await desk.ledger.messages(campaign, desk.device, [desk.contact])
    claim = await desk.ledger.claimed(desk.device)
    await desk.record(record_of(claim))
    await desk.receive(receipt_of(claim))
    assert [line.status for line in await desk.lines()] == ["delivered"]

    await desk.receive(receipt_of(claim, ReceiptKind.READ))
    assert [line.status for line in await desk.lines()] == ["read"]


async def test_what_was_not_sent_stands_in_no_chat(desk: ChatDesk) -> None:
    campaign = await desk.ledger.campaign()
    await desk.ledger.messages(campaign, desk.device, 3)
    claims = [await desk.ledger.claimed(desk.device) for _ in range(3)]

    await desk.record(
        record_of(claims[0], MessageStatus.FAILED),
        record_of(claims[1], MessageStatus.UNKNOWN, whatsapp_id=whatsapp_id(claims[1])),
        record_of(claims[2], MessageStatus.PENDING),
    )

    assert not await desk.chats()


async def test_without_storage_nothing_stands_in_chats(desk: ChatDesk) -> None:
    campaign = await desk.ledger.campaign()
    await desk.ledger.messages(campaign, desk.device, 2)
    claims = [await desk.ledger.claimed(desk.device) for _ in range(2)]
    await desk.ledger.record(
        record_of(claims[0]), record_of(claims[1], MessageStatus.UNKNOWN, whatsapp_id=whatsapp_id(claims[1]))
    )
    await desk.ledger.receive(receipt_of(claims[1]))

    assert not await desk.chats()


async def test_a_receipt_that_proves_a_message_puts_it_into_its_chat(desk: ChatDesk) -> None:
    campaign = await desk.ledger.campaign()
    await desk.ledger.messages(campaign, desk.device, [desk.contact])
    claim = await desk.ledger.claimed(desk.device)
    await desk.record(record_of(claim, MessageStatus.UNKNOWN, whatsapp_id=whatsapp_id(claim)))

    await desk.receive(receipt_of(claim))
    await desk.record(record_of(claim))

    assert [(line.id, line.status) for line in await desk.lines()] == [(whatsapp_id(claim), "delivered")]


async def test_a_receipt_that_was_there_before_the_record_puts_it_into_its_chat(desk: ChatDesk) -> None:
    campaign = await desk.ledger.campaign()
    await desk.ledger.messages(campaign, desk.device, [desk.contact])
    claim = await desk.ledger.claimed(desk.device)
    await desk.receive(receipt_of(claim))

    await desk.record(record_of(claim, MessageStatus.UNKNOWN, whatsapp_id=whatsapp_id(claim)))

    assert [line.status for line in await desk.lines()] == ["delivered"]


async def test_a_settlement_that_finds_a_receipt_puts_it_into_its_chat(desk: ChatDesk) -> None:
    campaign = await desk.ledger.campaign()
    await desk.ledger.messages(campaign, desk.device, [desk.contact])
    claim = await desk.ledger.claimed(desk.device)
    await desk.receive(receipt_of(claim))

    async with desk.ledger.sessions.begin() as session:
        await note_whatsapp_id(session, claim, whatsapp_id(claim), store_chats=True)

    assert [line.status for line in await desk.lines()] == ["delivered"]


async def test_the_same_record_again_changes_nothing(desk: ChatDesk) -> None:
    campaign = await desk.ledger.campaign()
    await desk.ledger.messages(campaign, desk.device, [desk.contact])
    record = record_of(await desk.ledger.claimed(desk.device))
    await desk.record(record)
    await desk.hear(desk.said("Thanks", 1))

    await desk.record(record, record)

    assert (await desk.texts(), (await desk.chat()).last_message) == (["Thanks", "Hi Ali"], "Thanks")


async def test_what_siaran_sends_leaves_answers_unread(desk: ChatDesk) -> None:
    await desk.hear(desk.said("How much?", -60))
    campaign = await desk.ledger.campaign()
    await desk.ledger.messages(campaign, desk.device, [desk.contact])
    await desk.record(record_of(await desk.ledger.claimed(desk.device)))

    chat = await desk.chat()
    assert (chat.unread, chat.last_message) == (1, "Hi Ali")


async def test_an_older_send_does_not_replace_the_newest_message(desk: ChatDesk) -> None:
    campaign = await desk.ledger.campaign()
    await desk.ledger.messages(campaign, desk.device, [desk.contact])
    claim = await desk.ledger.claimed(desk.device)
    await desk.hear(desk.said("Hello", 600))

    await desk.record(record_of(claim))

    assert (await desk.chat()).last_message == "Hello"
    assert await desk.texts() == ["Hello", "Hi Ali"]


async def test_a_history_that_tells_of_a_sent_message_does_not_repeat_it(desk: ChatDesk) -> None:
    campaign = await desk.ledger.campaign()
    await desk.ledger.messages(campaign, desk.device, [desk.contact])
    claim = await desk.ledger.claimed(desk.device)
    await desk.record(record_of(claim))
    await desk.receive(receipt_of(claim))

    await desk.hear(desk.past(desk.wrote("Hi Ali", whatsapp_id=whatsapp_id(claim)), unread=0, seconds=0))

    assert [(line.text, line.status) for line in await desk.lines()] == [("Hi Ali", "delivered")]


async def test_many_contacts_in_one_commit_each_have_their_chat(desk: ChatDesk) -> None:
    campaign, other = await desk.ledger.campaign(), await desk.ledger.device()
    await desk.ledger.messages(campaign, desk.device, 20)
    await desk.ledger.messages(campaign, other, 5)
    claims = [await desk.ledger.claimed(desk.device) for _ in range(20)] + [await desk.ledger.claimed(other) for _ in range(5)]

    await desk.record(*(record_of(claim) for claim in claims))

    assert {chat.id for chat in await desk.chats()} == {claim.phone for claim in claims[:20]}
    assert {chat.id for chat in await desk.chats(other)} == {claim.phone for claim in claims[20:]}


async def test_a_location_is_shown_in_words(desk: ChatDesk) -> None:
    async with desk.ledger.sessions.begin() as session:
        await add_one_off(
            session,
            desk.device,
            recipient_phone=desk.contact,
            message_type="location",
            content='{"latitude": 3.1, "longitude": 101.7, "name": "KLCC"}',
        )
    await desk.record(record_of(await desk.ledger.claimed(desk.device)))

    [line] = await desk.lines()
    assert (line.media_type, line.text) == ("location", "Location: KLCC, 3.100000, 101.700000")
    assert (await desk.chat()).last_message == "Location"


async def test_records_and_answers_of_the_same_moment_never_block_each_other(desk: ChatDesk) -> None:
    campaign = await desk.ledger.campaign()
    await desk.ledger.messages(campaign, desk.device, 30)
    claims = [await desk.ledger.claimed(desk.device) for _ in range(30)]
    answers = [desk.said(f"answer {claim.phone}", 5, sender=claim.phone) for claim in claims]

    await asyncio.gather(
        *(desk.record(*(record_of(claim) for claim in claims[start : start + 10])) for start in (0, 10, 20)),
        *(desk.hear(*reversed(answers[start : start + 10])) for start in (0, 10, 20)),
        *(desk.receive(*(receipt_of(claim) for claim in claims[start : start + 10])) for start in (20, 10, 0)),
    )

    chats = await desk.chats()
    assert [(chat.last_message, chat.unread) for chat in chats] == [(f"answer {chat.id}", 1) for chat in chats]
    assert len(chats) == 30
    await desk.ledger.check()
