"""Chats: what contacts, groups and the account itself write is stored once, and lists show what is newest and unread."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from siaran.chat_lines import LARGEST_FILE, PAST_FILES, TEXT_LENGTH
from siaran.gateway.interface import History, PastChat, Receipt, ReceiptKind
from siaran.models import (
    BroadcastMessage,
    ChatMediaState,
    IncomingMessage,
    MessageAnalytics,
    MessageStatus,
    Suppression,
    UnmatchedReceipt,
)
from tests.factories import add_device, add_lead, add_user, after, new_phone
from tests.ledger.chat_desk import PICTURE, ChatDesk
from tests.ledger.driver import Ledger

GROUP = "120363041234567890@g.us"


@pytest.fixture
async def desk(ledger: Ledger) -> ChatDesk:
    desk = ChatDesk(ledger)
    await desk.open()
    return desk


async def test_what_a_contact_writes_is_in_their_chat(desk: ChatDesk) -> None:
    await desk.hear(desk.said("Hello"), desk.said("Anybody there?", 60))

    chat = await desk.chat()
    assert (chat.id, chat.last_message, chat.last_message_at) == (desk.contact, "Anybody there?", after(60))
    assert (chat.unread, chat.is_group, chat.is_muted, chat.avatar_url) == (2, False, False, None)
    newest, oldest = await desk.lines()
    assert (newest.text, newest.sent_at, newest.is_outgoing) == ("Anybody there?", after(60), False)
    assert (oldest.id, oldest.text, oldest.sender, oldest.status) == ("Hello", "Hello", desk.contact, "received")


async def test_a_message_that_comes_again_changes_nothing(desk: ChatDesk) -> None:
    event = desk.said("Hello")
    await desk.hear(event, event)
    await desk.read()

    await asyncio.gather(*(desk.hear(event, replace(event, text="Forged")) for _ in range(5)))

    assert (await desk.texts(), (await desk.chat()).unread) == (["Hello"], 0)


async def test_a_late_message_takes_its_place_and_not_the_last_ones(desk: ChatDesk) -> None:
    await desk.hear(desk.said("second", 60))
    await desk.hear(desk.said("first", 0))

    chat = await desk.chat()
    assert (chat.last_message, chat.last_message_at, chat.unread) == ("second", after(60), 2)
    assert await desk.texts() == ["second", "first"]


async def test_messages_of_the_same_second_stand_as_they_came(desk: ChatDesk) -> None:
    await desk.hear(desk.said("b"), desk.said("a"))
    await desk.hear(desk.said("c"))

    assert await desk.texts() == ["c", "a", "b"]
    assert (await desk.chat()).last_message == "c"


async def test_nothing_is_unread_that_the_account_has_answered_on_its_phone(desk: ChatDesk) -> None:
    await desk.hear(desk.said("before", 0), desk.wrote("answer", 60), desk.said("after", 120))

    chat = await desk.chat()
    assert (chat.unread, chat.last_message) == (1, "after")
    [answer] = [line for line in await desk.lines() if line.is_outgoing]
    assert (answer.text, answer.sender, answer.status) == ("answer", "", "sent")
    assert chat.id == desk.contact


async def test_an_answer_that_is_heard_of_late_counts_for_what_came_before_it(desk: ChatDesk) -> None:
    await desk.hear(desk.said("before", 0), desk.said("after", 120))
    await desk.hear(desk.wrote("answer", 60))
    assert (await desk.chat()).unread == 1

    await desk.hear(desk.said("long before", -60))
    assert (await desk.chat()).unread == 1


async def test_a_chat_that_was_read_counts_only_what_comes_later(desk: ChatDesk) -> None:
    await desk.hear(desk.said("one"), desk.said("two", 1))
    await desk.read()
    assert (await desk.chat()).unread == 0

    await desk.hear(desk.said("late", -5), desk.said("three", 2))
    assert (await desk.chat()).unread == 1


async def test_a_group_has_one_chat_for_all_who_write_in_it(desk: ChatDesk) -> None:
    other = new_phone()
    in_group: dict[str, Any] = {"chat": GROUP, "is_personal": False, "sender_name": "Siti"}
    await desk.hear(desk.said("Hi all", **in_group), desk.said("Hi", 1, sender=other, **in_group))

    chat = await desk.chat()
    assert (chat.id, chat.name, chat.is_group, chat.unread) == (GROUP, GROUP, True, 2)
    assert [line.sender for line in await desk.lines(GROUP)] == [other, desk.contact]


async def test_status_updates_channels_and_messages_without_anything_are_no_chats(desk: ChatDesk) -> None:
    elsewhere: dict[str, Any] = {"is_personal": False}
    await desk.hear(
        desk.said("my holidays", chat="status@broadcast", **elsewhere),
        desk.said("news", chat="120363000000000000@newsletter", **elsewhere),
        desk.said("who knows", **elsewhere),
        desk.said("", whatsapp_id="empty"),
        desk.said("no id", whatsapp_id="\0"),
        desk.said("no sender", sender="broadcast"),
    )

    assert not await desk.chats()
    assert not await desk.rows()


async def test_without_storage_messages_are_heard_and_not_kept(desk: ChatDesk) -> None:
    await desk.hear(desk.said("Hello"), desk.past(desk.said("old", -60), unread=1, seconds=-60), store_chats=False)

    assert not await desk.chats()
    async with desk.ledger.sessions() as session:
        assert [row.whatsapp_id for row in await session.scalars(select(IncomingMessage))] == ["Hello"]


async def test_what_no_column_holds_is_left_out(desk: ChatDesk) -> None:
    await desk.hear(
        desk.said("a\0b\ud800", whatsapp_id="1" * 5_000, sender_name="Si\0ti" + "i" * 5_000),
        desk.said("x" * (TEXT_LENGTH + 10), 1, whatsapp_id="\0id"),
        desk.said("", 2, media=replace(PICTURE, mime_type="text/html\r\nX: y", file_name="\0" + "f" * 5_000), whatsapp_id="3"),
    )

    file, long, odd = await desk.lines()
    assert (odd.text, len(long.text), long.id) == ("ab?", TEXT_LENGTH, "id")
    assert (file.media_mime_type, file.media_file_name) == ("application/octet-stream", "f" * 199)
    assert len((await desk.chat()).name) < 250


async def test_a_chat_of_another_owner_with_the_same_contact_is_another_chat(desk: ChatDesk) -> None:
    async with desk.ledger.sessions.begin() as session:
        stranger = await add_user(session)
        theirs = await add_device(session, stranger, desk.ledger.host)
    event = desk.said("Hello")
    await desk.hear(event, replace(event, device_id=theirs.id))
    await desk.read()

    assert [chat.unread for chat in await desk.chats()] == [0]
    assert [chat.unread for chat in await desk.chats(theirs)] == [1]
    assert {row.user_id for row in await desk.rows()} == {desk.device.user_id, stranger.id}


async def test_a_chat_is_called_what_the_lead_is_called_else_as_the_contact_calls_themselves(desk: ChatDesk) -> None:
    await desk.hear(desk.said("Hello"))
    assert (await desk.chat()).name == f"+60 {desk.contact[2:4]}-{desk.contact[4:7]} {desk.contact[7:]}"
    await desk.hear(desk.said("It is me", 1, sender_name="Siti"))
    await desk.hear(desk.said("Still me", 2, sender_name="Somebody else"))
    assert (await desk.chat()).name == "Siti"

    async with desk.ledger.sessions.begin() as session:
        await add_lead(session, desk.ledger.user, phone=desk.contact, name="Puan Siti")
        await add_lead(session, await add_user(session), phone=desk.contact, name="A stranger's")

    assert (await desk.chat()).name == "Puan Siti"


async def test_a_file_waits_to_be_fetched_unless_it_is_too_large(desk: ChatDesk) -> None:
    await desk.hear(
        desk.said("", media=PICTURE, whatsapp_id="1"),
        desk.said("caption", 1, media=replace(PICTURE, kind="video", size_bytes=LARGEST_FILE + 1)),
        desk.said("", 2, media=replace(PICTURE, kind="sticker"), whatsapp_id="3"),
    )

    sticker, video, image = await desk.lines()
    assert (image.media_type, image.media_state, image.media_url) == ("image", ChatMediaState.WAITING, None)
    assert (video.text, video.media_state) == ("caption", ChatMediaState.TOO_LARGE)
    assert (sticker.media_type, (await desk.chat()).last_message) == ("sticker", "Sticker")


async def test_history_fills_chats_and_counts_as_the_phone_did(desk: ChatDesk) -> None:
    old = [desk.said("one", -300), desk.wrote("two", -240), desk.said("three", -180), desk.said("four", -120)]
    await desk.hear(desk.past(*reversed(old), unread=1, seconds=-120, name="Siti", is_muted=True))
    await desk.hear(desk.past(*old, unread=1, seconds=-120))

    chat = await desk.chat()
    assert (chat.name, chat.is_muted, chat.unread, chat.last_message) == ("Siti", False, 1, "four")
    assert await desk.texts() == ["four", "three", "two", "one"]
    await desk.hear(desk.said("five", 0))
    assert (await desk.chat()).unread == 2


async def test_history_that_comes_after_new_messages_counts_them_too(desk: ChatDesk) -> None:
    await desk.hear(desk.said("old", -60), desk.said("new", 0))
    await desk.hear(desk.past(desk.said("old", -60), unread=3, seconds=-60))
    assert (await desk.chat()).unread == 4

    await desk.hear(desk.wrote("answer", 1))
    await desk.hear(desk.past(unread=9, seconds=-30))
    assert ((await desk.chat()).unread, (await desk.chat()).last_message) == (0, "answer")


async def test_history_is_no_news(desk: ChatDesk) -> None:
    async with desk.ledger.sessions.begin() as session:
        lead = await add_lead(session, desk.ledger.user, phone=desk.contact)
    campaign = await desk.ledger.campaign()
    await desk.ledger.messages(campaign, desk.device, [desk.contact], status=MessageStatus.SENT, sent_at=after(-600))
    await desk.ledger.change(desk.ledger.user, opt_out_reply="You will hear from us no more.")

    await desk.hear(desk.past(desk.said("STOP", -60), unread=1, seconds=-60))

    async with desk.ledger.sessions() as session:
        assert not list(await session.scalars(select(Suppression)))
        assert not list(await session.scalars(select(IncomingMessage)))
        assert [row.replied for row in await session.scalars(select(MessageAnalytics))] in ([], [0])
        assert not list(await session.scalars(select(BroadcastMessage).where(BroadcastMessage.status == "pending")))
        assert (await session.merge(lead)).last_interaction is None
    assert await desk.texts() == ["STOP"]


async def test_of_history_only_recent_files_are_fetched(desk: ChatDesk) -> None:
    now = after(0)
    recent = desk.said("recent", -60, media=PICTURE)
    old = desk.said("old", -PAST_FILES.total_seconds() - 60, media=PICTURE)
    await desk.hear(desk.past(recent, old, unread=0, seconds=-60), at=now)

    assert [line.media_state for line in await desk.lines()] == [ChatMediaState.WAITING, ChatMediaState.GONE]


async def test_a_long_history_is_taken_in_whole_and_empty_chats_are_left_out(desk: ChatDesk) -> None:
    messages = [desk.said(f"message {number}", -number) for number in range(2_500)]
    chats = (
        PastChat(GROUP, "The family", 7, is_group=True, is_muted=True, last_at=after(-1)),
        PastChat(new_phone(), "Nobody", 0, is_group=False, is_muted=False, last_at=None),
        PastChat("status@broadcast", "Status", 3, is_group=False, is_muted=False, last_at=after(0)),
        PastChat(desk.contact, "Siti", 0, is_group=False, is_muted=False, last_at=None),
    )

    await desk.hear(History(desk.device.id, "history:0", chats, tuple(messages)))

    siti, family = await desk.chats()
    assert (siti.id, siti.unread, siti.last_message) == (desk.contact, 0, "message 0")
    assert (family.name, family.unread, family.is_muted, family.last_message) == ("The family", 7, True, "")
    assert len(await desk.rows()) == 2_500
    await desk.hear(desk.said("older than all that is known", -9, chat=GROUP, is_personal=False))
    assert (await desk.chats())[1].last_message == "older than all that is known"


async def test_receipts_raise_what_the_account_wrote_on_its_phone(desk: ChatDesk) -> None:
    await desk.hear(desk.wrote("Hello", whatsapp_id="P1"), desk.wrote("Again", 1, whatsapp_id="P2"))
    await desk.receive(receipt(desk, "P1", ReceiptKind.READ), receipt(desk, "P2", ReceiptKind.DELIVERED))
    await desk.receive(receipt(desk, "P1", ReceiptKind.DELIVERED))

    assert [line.status for line in await desk.lines()] == ["delivered", "read"]
    async with desk.ledger.sessions() as session:
        assert not list(await session.scalars(select(UnmatchedReceipt)))


async def test_a_receipt_that_comes_before_its_message_is_not_lost(desk: ChatDesk) -> None:
    await desk.receive(receipt(desk, "P1", ReceiptKind.DELIVERED), receipt(desk, "X", ReceiptKind.READ))
    await desk.hear(desk.wrote("Hello", whatsapp_id="P1"))

    assert [line.status for line in await desk.lines()] == ["delivered"]


async def test_receipts_of_the_same_moment_as_their_messages_are_never_lost(desk: ChatDesk) -> None:
    ids = [f"P{number}" for number in range(20)]
    await asyncio.gather(
        *(desk.hear(desk.wrote("Hello", whatsapp_id=name)) for name in ids),
        *(desk.receive(receipt(desk, name, ReceiptKind.DELIVERED)) for name in ids),
    )

    assert [line.status for line in await desk.lines()] == ["delivered"] * len(ids)


async def test_a_receipt_for_another_device_or_for_a_contacts_message_raises_nothing(desk: ChatDesk) -> None:
    other = await desk.ledger.device()
    await desk.hear(desk.wrote("Hello", whatsapp_id="P1"), desk.said("Hi", 1, whatsapp_id="C1"))
    await desk.receive(replace(receipt(desk, "P1"), device_id=other.id), receipt(desk, "C1"))

    assert [line.status for line in await desk.lines()] == ["received", "sent"]


async def test_a_message_from_the_future_is_of_now(desk: ChatDesk) -> None:
    await desk.hear(desk.said("tomorrow", 86_400), at=after(0))

    assert (await desk.chat()).last_message_at == after(0)


async def test_chats_are_found_by_name_number_and_newest_message(desk: ChatDesk) -> None:
    other = new_phone()
    await desk.hear(desk.said("How much is it?", sender_name="Siti"), desk.said("100% sure", sender=other))
    async with desk.ledger.sessions.begin() as session:
        await add_lead(session, desk.ledger.user, phone=other, name="Encik Badrul")

    for wanted in ("siti", "MUCH", f"+{desk.contact[:6]} {desk.contact[6:]}", f"0{desk.contact[2:]}"):
        assert [chat.id for chat in await desk.chats(wanted=wanted)] == [desk.contact], wanted
    for wanted in ("badrul", "0%"):
        assert [chat.id for chat in await desk.chats(wanted=wanted)] == [other], wanted
    assert len(await desk.chats(wanted=" \0")) == 2
    assert not await desk.chats(wanted="nothing like it")


def receipt(desk: ChatDesk, whatsapp_id: str, kind: ReceiptKind = ReceiptKind.DELIVERED) -> Receipt:
    """A receipt for a message of the desk's device."""
    return Receipt(desk.device.id, whatsapp_id, kind, after(0) + timedelta(seconds=5))
