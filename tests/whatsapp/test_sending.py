"""What the real client sends, as the server and the recipients see it."""

import asyncio
import hashlib
import re
import sqlite3
from contextlib import closing

import pytest

from tests.waiting import eventually
from tests.whatsapp.images import make_jpeg
from tests.whatsapp_server.channel import Refused
from tests.whatsapp_server.harness import RealClient, WhatsApp

pytestmark = pytest.mark.whatsapp

SECRET = hashlib.sha256(b"an attempt").hexdigest()


async def test_a_text_is_recorded_as_its_recipient_reads_it(
    whatsapp: WhatsApp, client: RealClient, number: str, contact: str
) -> None:
    sent = await client.send_text(to=contact, text="Selamat pagi ☀", secret=SECRET)
    [seen] = await whatsapp.record(number)
    assert (seen.number, seen.device, seen.recipient, seen.id) == (number, 1, contact, sent)
    assert (seen.type, seen.text, seen.secret, seen.answer) == ("text", "Selamat pagi ☀", SECRET, "ack")


async def test_texts_to_one_recipient_are_all_read(whatsapp: WhatsApp, client: RealClient, number: str, contact: str) -> None:
    for text in ("one", "two", "three"):
        await client.send_text(to=contact, text=text)
    assert [seen.text for seen in await whatsapp.record(number)] == ["one", "two", "three"]


async def test_an_image_is_uploaded_and_read_with_its_caption(
    whatsapp: WhatsApp, client: RealClient, number: str, contact: str
) -> None:
    image = make_jpeg()
    await client.send_file(contact, image, "our shop")
    [seen] = await whatsapp.record(number)
    assert (seen.type, seen.text) == ("image", "our shop")
    assert seen.media is not None
    assert seen.media.mime_type == "image/jpeg"
    assert seen.media.sha256 == hashlib.sha256(image).hexdigest()


async def test_a_refused_upload_transmits_nothing(whatsapp: WhatsApp, client: RealClient, number: str, contact: str) -> None:
    await whatsapp.set_media_status(status=503)
    with pytest.raises(Refused, match="503"):
        await client.send_file(contact, make_jpeg(), "")
    assert await whatsapp.record(number) == []


@pytest.mark.parametrize("code", [429, 463, 479])
async def test_an_error_code_reaches_the_sender(
    whatsapp: WhatsApp, client: RealClient, number: str, contact: str, code: int
) -> None:
    await whatsapp.answer_messages(answer="refuse", code=code, number=number, times=1)
    with pytest.raises(Refused, match=re.escape(f"server returned error {code}")):
        await client.send_text(to=contact, text="first")
    await client.send_text(to=contact, text="second")
    assert [seen.answer for seen in await whatsapp.record(number)] == [f"refuse:{code}", "ack"]


async def test_a_script_can_name_a_recipient(whatsapp: WhatsApp, client: RealClient, number: str, contact: str) -> None:
    await whatsapp.answer_messages(answer="refuse", code=463, recipient=contact)
    await client.send_text(to="628990000001", text="to someone else")
    with pytest.raises(Refused, match="463"):
        await client.send_text(to=contact, text="to them")


async def test_a_late_acknowledgement_ends_the_send(whatsapp: WhatsApp, client: RealClient, number: str, contact: str) -> None:
    await whatsapp.answer_messages(answer="ack", number=number, after=0.5)
    started = asyncio.get_running_loop().time()
    await client.send_text(to=contact, text="hello")
    assert asyncio.get_running_loop().time() - started >= 0.5


async def test_without_an_acknowledgement_the_session_knows_the_message_by_its_secret(
    whatsapp: WhatsApp, client: RealClient, number: str, contact: str
) -> None:
    await whatsapp.answer_messages(answer="ignore", number=number)
    sending = asyncio.create_task(client.send_text(to=contact, text="hello", secret=SECRET))
    [seen] = await whatsapp.wait_for_transmissions(number)
    assert not sending.done()
    await client.kill()
    with pytest.raises(ConnectionError):
        await sending
    with closing(sqlite3.connect(whatsapp.folder / f"{number}.db")) as session:
        query = "SELECT message_id FROM whatsmeow_message_secrets WHERE key = ?"
        assert session.execute(query, (bytes.fromhex(SECRET),)).fetchall() == [(seen.id,)]


async def test_after_a_dropped_connection_the_client_repeats_the_same_message(
    whatsapp: WhatsApp, client: RealClient, number: str, contact: str
) -> None:
    await whatsapp.answer_messages(answer="drop", number=number, times=1)
    sent = await client.send_text(to=contact, text="hello")
    record = await whatsapp.record(number)
    assert [(seen.id, seen.text, seen.answer) for seen in record] == [(sent, "hello", "drop"), (sent, "hello", "ack")]


async def test_numbers_are_checked(whatsapp: WhatsApp, client: RealClient, contact: str) -> None:
    await whatsapp.unregister(numbers=["628990000002"])
    assert await client.check(phones=[contact, "628990000002"]) == {contact: True, "628990000002": False}


async def test_nothing_is_transmitted_to_a_number_without_an_account(
    whatsapp: WhatsApp, client: RealClient, number: str
) -> None:
    await whatsapp.unregister(numbers=["628990000003"])
    with pytest.raises(Refused, match="no LID found"):
        await client.send_text(to="628990000003", text="hello")
    assert await whatsapp.record(number) == []


async def test_reading_and_typing_are_seen_by_the_server(
    whatsapp: WhatsApp, client: RealClient, number: str, contact: str
) -> None:
    await client.mark_read(phone=contact, ids=["FIRST", "SECOND"])
    await client.show_typing(phone=contact)

    async def seen() -> bool:
        return bool(await whatsapp.stanzas(number=number, tag="chatstate"))

    await eventually(seen)
    [typing] = await whatsapp.stanzas(number=number, tag="chatstate")
    [read] = await whatsapp.stanzas(number=number, tag="receipt")
    assert typing["state"] == "composing"
    assert (read["type"], read["id"]) == ("read", "FIRST")


async def test_a_profile_picture_has_an_address(whatsapp: WhatsApp, client: RealClient, contact: str) -> None:
    await whatsapp.set_picture(number=contact, content="")
    assert await client.picture(phone=contact) == f"https://mmg.whatsapp.net/pictures/{contact}"
