"""What contacts and the account's own phone send, as the transport passes it on."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.waiting import eventually
from tests.whatsapp.adapter import Account, Adapter, key_of, run_adapter
from tests.whatsapp.images import make_jpeg
from tests.whatsapp_server.harness import WhatsApp

pytestmark = pytest.mark.whatsapp


@pytest.fixture(scope="module")
async def receiver(whatsapp_server: WhatsApp) -> AsyncIterator[tuple[Adapter, Account]]:
    """One transport with one account, for all tests here."""
    with TemporaryDirectory(prefix="siaran-") as folder:
        async with run_adapter(whatsapp_server, Path(folder), 1) as (adapter, [account]):
            yield adapter, account


@pytest.fixture
def adapter(whatsapp: WhatsApp, receiver: tuple[Adapter, Account]) -> Adapter:
    return receiver[0]


@pytest.fixture
def account(receiver: tuple[Adapter, Account]) -> Account:
    return receiver[1]


def words(text: str) -> dict[str, Any]:
    return {"extendedTextMessage": {"text": text}}


async def hear(adapter: Adapter, whatsapp_id: str) -> dict[str, Any]:
    return await adapter.wait_for("Incoming", whatsapp_id=whatsapp_id)


async def test_a_contacts_text_has_their_number_and_name(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str
) -> None:
    sent = await whatsapp.send_text(number=account.number, sender=contact, text="STOP", name="Budi")
    heard = await hear(adapter, sent)
    assert (heard["sender"], heard["chat"], heard["text"], heard["sender_name"]) == (contact, contact, "STOP", "Budi")
    assert (heard["is_personal"], heard["from_me"], heard["media"]) == (True, False, None)
    assert heard["device_id"] == account.device_id
    assert heard["at"].endswith("+00:00")


async def test_a_number_that_whatsapp_does_not_tell_is_never_guessed(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str
) -> None:
    sent = await whatsapp.send_text(number=account.number, sender=contact, text="Who?", hides_number=True)
    unknown = await hear(adapter, sent)
    assert unknown["sender"] == unknown["chat"]
    assert unknown["sender"].endswith("@lid")
    await adapter.send(device_id=account.device_id, to=contact, key=key_of(f"to {contact}"), text="hello")
    sent = await whatsapp.send_text(number=account.number, sender=contact, text="I", hides_number=True)
    known = await hear(adapter, sent)
    assert (known["sender"], known["chat"], known["is_personal"]) == (contact, contact, True)


@pytest.mark.parametrize("chat", ["120363000000000001@g.us", "status@broadcast"])
async def test_what_is_said_in_groups_and_status_updates_is_not_personal(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str, chat: str
) -> None:
    sent = await whatsapp.send_text(number=account.number, sender=contact, text="Hello all", chat=chat)
    heard = await hear(adapter, sent)
    assert (heard["is_personal"], heard["sender"], heard["chat"]) == (False, contact, chat)


async def test_what_the_owner_writes_on_the_phone_is_from_me(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str
) -> None:
    sent = await whatsapp.send_from_phone(number=account.number, recipient=contact, text="I will call you")
    heard = await hear(adapter, sent)
    assert (heard["from_me"], heard["is_personal"]) == (True, True)
    assert (heard["sender"], heard["chat"], heard["text"]) == (account.number, contact, "I will call you")


@pytest.mark.parametrize(
    ("kind", "mime_type", "caption"),
    [
        ("image", "image/jpeg", "look"),
        ("video", "video/mp4", "look"),
        ("audio", "audio/ogg", ""),
        ("document", "application/pdf", "look"),
        ("sticker", "image/webp", ""),
    ],
)
async def test_a_contacts_file_can_be_downloaded_byte_by_byte(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str, kind: str, mime_type: str, caption: str
) -> None:
    content = b64encode(make_jpeg((200, 0, 0))).decode()
    file = {"content": content, "kind": kind, "mime_type": mime_type, "caption": caption}
    heard = await hear(adapter, await whatsapp.send_media(number=account.number, sender=contact, **file))
    media = heard["media"]
    assert (heard["text"], media["kind"], media["mime_type"]) == (caption, kind, mime_type)
    assert media["size_bytes"] == len(make_jpeg((200, 0, 0)))
    assert await adapter.download(device_id=account.device_id, reference=media["reference"]) == content


async def test_a_file_that_whatsapp_has_deleted_is_gone(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str
) -> None:
    content = b64encode(make_jpeg()).decode()
    heard = await hear(adapter, await whatsapp.send_media(number=account.number, sender=contact, content=content))
    await whatsapp.set_media_status(status=404)
    with pytest.raises(Exception, match=r"^Rejected: download failed with status code 404"):
        await adapter.download(device_id=account.device_id, reference=heard["media"]["reference"])


@pytest.mark.parametrize("path", [{}, {"directPath": "@127.0.0.1/secret"}, {"directPath": "/v/unknown"}])
async def test_a_contact_cannot_name_the_place_that_a_file_is_read_from(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str, path: dict[str, str]
) -> None:
    asked = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecret")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as inside:
        url = f"http://127.0.0.1:{inside.sockets[0].getsockname()[1]}/secret"
        content = {"imageMessage": {"URL": url, "mimetype": "image/png", "fileLength": "6", **path}}
        sent = await whatsapp.send_content(number=account.number, sender=contact, content=content)
        media = (await hear(adapter, sent))["media"]
        with pytest.raises(Exception, match=r"^Rejected"):
            await adapter.download(device_id=account.device_id, reference=media["reference"])
    assert asked == []


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"ephemeralMessage": {"message": words("vanishing")}}, "vanishing"),
        ({"viewOnceMessageV2": {"message": {"imageMessage": {"caption": "once", "mimetype": "image/jpeg"}}}}, "once"),
        ({"documentWithCaptionMessage": {"message": {"documentMessage": {"caption": "terms", "fileName": "a.pdf"}}}}, "terms"),
        ({"locationMessage": {"name": "Shop", "degreesLatitude": 1}}, "Shop"),
        ({"buttonsResponseMessage": {"selectedDisplayText": "Stop"}}, "Stop"),
    ],
)
async def test_wrapped_and_special_messages_are_read(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str, content: dict[str, Any], text: str
) -> None:
    sent = await whatsapp.send_content(number=account.number, sender=contact, content=content)
    assert (await hear(adapter, sent))["text"] == text


async def test_reactions_edits_deletions_and_votes_are_no_messages(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str
) -> None:
    first = await whatsapp.send_text(number=account.number, sender=contact, text="first")
    key = {"remoteJID": f"{contact}@s.whatsapp.net", "fromMe": False, "ID": first}
    edit = {"protocolMessage": {"key": key, "type": "MESSAGE_EDIT", "editedMessage": words("edited")}}
    silent: list[dict[str, Any]] = [
        {"reactionMessage": {"key": key, "text": "👍"}},
        {"protocolMessage": {"key": key, "type": "REVOKE"}},
        edit,
        {"editedMessage": {"message": edit}},
        {"pollUpdateMessage": {"pollCreationMessageKey": key}},
    ]
    for content in silent:
        await whatsapp.send_content(number=account.number, sender=contact, content=content)
    last = await whatsapp.send_text(number=account.number, sender=contact, text="last")
    await hear(adapter, last)
    heard = [event["text"] for event in await adapter.heard(account) if event["sender"] == contact]
    assert heard == ["first", "last"]


async def test_receipts_name_each_message_and_say_how_far_it_got(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str
) -> None:
    ids = [f"SENT{contact}{number}" for number in range(3)]
    for kind in ("delivered", "read"):
        await whatsapp.send_receipt(number=account.number, recipient=contact, ids=ids[:2], kind=kind)
    await whatsapp.send_receipt(number=account.number, recipient=contact, ids=ids[2:], kind="played")

    async def receipts() -> set[tuple[str, str]]:
        return {
            (event["whatsapp_id"], event["kind"])
            for event in await adapter.heard(account, "Receipt")
            if event["whatsapp_id"] in ids
        }

    expected = {(name, kind) for name in ids[:2] for kind in ("delivered", "read")} | {(ids[2], "read")}

    async def complete() -> bool:
        return await receipts() == expected

    await eventually(complete)


async def test_receipts_that_say_nothing_of_delivery_are_left_out(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str
) -> None:
    await whatsapp.send_receipt(number=account.number, recipient=contact, ids=["INACTIVE"], kind="inactive")
    await whatsapp.send_receipt(number=account.number, recipient=contact, ids=["FINE"], kind="delivered")
    await adapter.wait_for("Receipt", whatsapp_id="FINE")
    ids = {event["whatsapp_id"] for event in await adapter.heard(account, "Receipt")}
    assert "INACTIVE" not in ids


async def test_the_phones_history_comes_in_bounded_pieces_under_phone_numbers(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str
) -> None:
    # The session learns a contact's number when it first writes to them.
    await adapter.send(device_id=account.device_id, to=contact, key=key_of(contact), text="hello")
    old = {"contact": contact, "text": "long ago", "at": 1_700_000_000}
    messages = [{**old, "id": f"OLD{number}", "from_me": number % 2 == 1} for number in range(450)]
    await whatsapp.send_history(number=account.number, messages=messages)

    async def complete() -> bool:
        return sum(len(piece["messages"]) for piece in await adapter.heard(account, "History")) == 450

    await eventually(complete, within=20)
    pieces = await adapter.heard(account, "History")
    assert [len(piece["messages"]) for piece in pieces] == [200, 200, 50]
    assert len({piece["whatsapp_id"] for piece in pieces}) == 3
    assert [chat["chat"] for piece in pieces for chat in piece["chats"]] == [contact]
    first, second = pieces[0]["messages"][:2]
    assert (first["whatsapp_id"], first["sender"], first["from_me"], first["chat"]) == ("OLD0", contact, False, contact)
    assert (second["sender"], second["from_me"], second["chat"]) == (account.number, True, contact)
    assert first["at"] == "2023-11-14T22:13:20+00:00"


async def test_contacts_are_known_by_the_names_they_gave(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str
) -> None:
    sent = await whatsapp.send_text(number=account.number, sender=contact, text="hello", name="Siti")
    await hear(adapter, sent)

    async def named() -> bool:
        return bool((await adapter.contact_names(device_id=account.device_id)).get(contact) == "Siti")

    await eventually(named)
