"""What reaches the real client: receipts, messages, files, history."""

import asyncio
from base64 import b64decode, b64encode
from typing import Any

import pytest

from tests.waiting import eventually
from tests.whatsapp.images import make_jpeg
from tests.whatsapp_server.harness import RealClient, WhatsApp

pytestmark = pytest.mark.whatsapp


def text_of(event: dict[str, Any]) -> str:
    return str(event["Message"]["conversation"])


async def is_acknowledged(whatsapp: WhatsApp, number: str) -> bool:
    """Whether the client has taken everything that was sent to it."""
    return bool((await whatsapp.status())["waiting"][number] == 0)


@pytest.mark.parametrize(("kind", "reported"), [("delivered", "DELIVERED"), ("read", "READ")])
async def test_a_receipt_names_its_message(
    whatsapp: WhatsApp, client: RealClient, number: str, contact: str, kind: str, reported: str
) -> None:
    sent = await client.send_text(to=contact, text="hello")
    await whatsapp.send_receipt(number=number, recipient=contact, ids=[sent], kind=kind)
    receipt = await client.wait_for("Receipt")
    assert (receipt["MessageIDs"], receipt["Type"]) == ([sent], reported)


async def test_receipts_follow_by_themselves_if_told_so(
    whatsapp: WhatsApp, client: RealClient, number: str, contact: str
) -> None:
    await whatsapp.send_receipts_by_itself(kinds=["delivered", "read"])
    sent = await client.send_text(to=contact, text="hello")

    async def receipts() -> list[Any]:
        return [(event["MessageIDs"], event["Type"]) for event in await client.events() if event["type"] == "Receipt"]

    async def both() -> bool:
        return len(await receipts()) == 2

    await eventually(both)
    assert sorted(await receipts()) == [([sent], "DELIVERED"), ([sent], "READ")]


async def test_a_receipt_waits_for_a_client_that_is_away(
    whatsapp: WhatsApp, client: RealClient, number: str, contact: str
) -> None:
    sent = await client.send_text(to=contact, text="hello")
    await client.kill()
    await whatsapp.send_receipt(number=number, recipient=contact, ids=[sent], kind="delivered")
    resumed = await whatsapp.start_client(number)
    assert (await resumed.wait_for("Receipt"))["MessageIDs"] == [sent]
    await eventually(lambda: is_acknowledged(whatsapp, number))


async def test_a_receipt_proves_what_a_killed_client_never_saw_acknowledged(
    whatsapp: WhatsApp, client: RealClient, number: str, contact: str
) -> None:
    await whatsapp.answer_messages(answer="ignore", number=number)
    sending = asyncio.create_task(client.send_text(to=contact, text="hello"))
    [seen] = await whatsapp.wait_for_transmissions(number)
    await client.kill()
    with pytest.raises(ConnectionError):
        await sending
    resumed = await whatsapp.start_client(number)
    await resumed.wait_for("Connected")
    await whatsapp.send_receipt(number=number, recipient=contact, ids=[seen.id], kind="delivered")
    assert (await resumed.wait_for("Receipt"))["MessageIDs"] == [seen.id]
    assert len(await whatsapp.record(number)) == 1


async def test_a_contacts_text_arrives_with_the_phone_number(
    whatsapp: WhatsApp, client: RealClient, number: str, contact: str
) -> None:
    sent = await whatsapp.send_text(number=number, sender=contact, text="STOP", name="Budi")
    event = await client.wait_for("Message")
    source = event["Info"]["MessageSource"]
    assert (event["Info"]["ID"], text_of(event), event["Info"]["Pushname"]) == (sent, "STOP", "Budi")
    assert (source["Sender"]["Server"], source["SenderAlt"]["User"]) == ("lid", contact)
    await eventually(lambda: is_acknowledged(whatsapp, number))


async def test_a_conversation_is_read_on_both_sides(whatsapp: WhatsApp, client: RealClient, number: str, contact: str) -> None:
    await client.send_text(to=contact, text="Hello, do you want our catalogue?")
    await whatsapp.send_text(number=number, sender=contact, text="Yes")
    assert text_of(await client.wait_for("Message")) == "Yes"
    await client.send_text(to=contact, text="Here it is")
    heard = await client.position()
    await whatsapp.send_text(number=number, sender=contact, text="Thanks")
    assert text_of(await client.wait_for("Message", after=heard)) == "Thanks"
    await client.send_text(to=contact, text="Bye")
    assert [seen.text for seen in await whatsapp.record(number)][1:] == ["Here it is", "Bye"]


async def test_a_contact_who_writes_first_can_be_answered(
    whatsapp: WhatsApp, client: RealClient, number: str, contact: str
) -> None:
    await whatsapp.send_text(number=number, sender=contact, text="Are you open?")
    await client.wait_for("Message")
    await client.send_text(to=contact, text="We are")
    assert [seen.text for seen in await whatsapp.record(number)] == ["We are"]


@pytest.mark.parametrize(
    ("kind", "mime_type"), [("image", "image/jpeg"), ("video", "video/mp4"), ("document", "application/pdf")]
)
async def test_a_contacts_file_is_downloaded_byte_by_byte(
    whatsapp: WhatsApp, client: RealClient, number: str, contact: str, kind: str, mime_type: str
) -> None:
    content = make_jpeg((200, 0, 0))
    file = {"content": b64encode(content).decode(), "kind": kind, "mime_type": mime_type, "caption": "look"}
    sent = await whatsapp.send_media(number=number, sender=contact, **file)
    event = await client.wait_for("Message")
    assert event["Message"][f"{kind}Message"]["caption"] == "look"
    assert b64decode(await client.download(message_id=sent)) == content


@pytest.mark.parametrize("chat", ["120363000000000001@g.us", "status@broadcast"])
async def test_what_is_said_in_groups_names_the_group_and_the_speaker(
    whatsapp: WhatsApp, client: RealClient, number: str, contact: str, chat: str
) -> None:
    await whatsapp.send_text(number=number, sender=contact, text="Hello all", chat=chat)
    source = (await client.wait_for("Message"))["Info"]["MessageSource"]
    assert source["IsGroup"]
    assert f"{source['Chat']['User']}@{source['Chat']['Server']}" == chat
    assert source["SenderAlt"]["User"] == contact


async def test_what_the_owner_writes_on_the_phone_arrives_as_their_own(
    whatsapp: WhatsApp, client: RealClient, number: str, contact: str
) -> None:
    await whatsapp.send_from_phone(number=number, recipient=contact, text="I will call you")
    event = await client.wait_for("Message")
    source = event["Info"]["MessageSource"]
    assert source["IsFromMe"]
    assert text_of(event) == "I will call you"
    assert source["RecipientAlt"]["User"] == contact


async def test_the_phones_history_arrives(whatsapp: WhatsApp, client: RealClient, number: str, contact: str) -> None:
    old = {"contact": contact, "id": "OLD1", "text": "long ago", "from_me": False, "at": 1_700_000_000}
    await whatsapp.send_history(number=number, messages=[old, {**old, "id": "OLD2", "from_me": True}])
    history = (await client.wait_for("HistorySync"))["Data"]
    [chat] = history["conversations"]
    assert [entry["message"]["key"]["ID"] for entry in chat["messages"]] == ["OLD1", "OLD2"]
    assert chat["messages"][0]["message"]["message"]["conversation"] == "long ago"
