"""What the transport sends, as the server and the recipients see it, and what its errors say."""

import asyncio
import hashlib
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.whatsapp.adapter import Account, Adapter, key_of, run_adapter
from tests.whatsapp.images import make_jpeg
from tests.whatsapp_server.channel import Refused
from tests.whatsapp_server.harness import WhatsApp
from tests.whatsapp_server.record import Transmission

pytestmark = pytest.mark.whatsapp

CARD = "\n".join(  # the name's semicolon does not separate its parts
    [
        "BEGIN:VCARD",
        "VERSION:3.0",
        r"N:;Aminah\; Ali;;;",
        r"FN:Aminah\; Ali",
        "TEL;type=CELL;type=VOICE;waid=60123456789:+60123456789",
        "END:VCARD",
    ]
)

_keys: Iterator[int] = count()


@pytest.fixture(scope="module")
async def sender(whatsapp_server: WhatsApp) -> AsyncIterator[tuple[Adapter, Account]]:
    """One transport with one account, for all tests here."""
    with TemporaryDirectory(prefix="siaran-") as folder:
        async with run_adapter(whatsapp_server, Path(folder), 1) as (adapter, [account]):
            yield adapter, account


@pytest.fixture
def adapter(whatsapp: WhatsApp, sender: tuple[Adapter, Account]) -> Adapter:
    return sender[0]


@pytest.fixture
def account(sender: tuple[Adapter, Account]) -> Account:
    return sender[1]


@pytest.fixture
def key() -> str:
    return key_of(f"sending {next(_keys)}")


async def seen_by(whatsapp: WhatsApp, account: Account, contact: str) -> list[Transmission]:
    """What one contact has been sent."""
    return [seen for seen in await whatsapp.record(account.number) if seen.recipient == contact]


async def test_a_text_arrives_with_its_key_as_its_secret(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str, key: str
) -> None:
    sent = await adapter.send(device_id=account.device_id, to=contact, key=key, text="Selamat pagi ☀")
    [seen] = await seen_by(whatsapp, account, contact)
    assert (seen.type, seen.text, seen.secret, seen.id) == ("text", "Selamat pagi ☀", key, sent["whatsapp_id"])
    assert sent["sent_at"].endswith("+00:00")


@pytest.mark.parametrize(
    ("kind", "mime_type", "caption", "arrives_as"),
    [
        ("image", "image/jpeg", "our shop", "image/jpeg"),
        ("video", "video/mp4", "our film", "video/mp4"),
        ("audio", "audio/mpeg", "", "audio/mpeg"),
        ("audio", "audio/ogg", "", "audio/ogg; codecs=opus"),
        ("document", "application/pdf", "our prices", "application/pdf"),
        ("document", "application/pdf", "", "application/pdf"),
    ],
)
async def test_a_file_arrives_byte_by_byte_with_its_caption(
    whatsapp: WhatsApp,
    adapter: Adapter,
    account: Account,
    contact: str,
    key: str,
    kind: str,
    mime_type: str,
    caption: str,
    arrives_as: str,
) -> None:
    content = make_jpeg() + key.encode()
    file = {"kind": kind, "mime_type": mime_type, "file": b64encode(content).decode(), "media_url": f"media://{key}"}
    await adapter.send(device_id=account.device_id, to=contact, key=key, text=caption, **file)
    [seen] = await seen_by(whatsapp, account, contact)
    assert (seen.type, seen.text, seen.secret) == (kind, caption, key)
    assert seen.media is not None
    assert (seen.media.mime_type, seen.media.sha256) == (arrives_as, hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("kind", "content", "arrives"),
    [
        (
            "location",
            {"latitude": 3.125, "longitude": 101.5, "name": "Shop", "address": "Main Road 1"},
            "3.125 101.5 Shop Main Road 1",
        ),
        (
            "contact",
            {"name": "Aminah; Ali", "phone": "60123456789"},
            CARD,
        ),
        ("poll", {"question": "When?", "options": ["Monday", "Tuesday"], "selectable": 2}, "When?: Monday, Tuesday (2)"),
    ],
)
async def test_locations_contacts_and_polls_arrive(
    whatsapp: WhatsApp,
    adapter: Adapter,
    account: Account,
    contact: str,
    key: str,
    kind: str,
    content: dict[str, object],
    arrives: str,
) -> None:
    await adapter.send(device_id=account.device_id, to=contact, key=key, kind=kind, text=json.dumps(content))
    [seen] = await seen_by(whatsapp, account, contact)
    assert (seen.type, seen.text, seen.secret) == (kind, arrives, key)


async def test_a_file_is_uploaded_once_for_all_its_recipients(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str, key: str
) -> None:
    file = {"kind": "image", "file": b64encode(make_jpeg()).decode(), "media_url": f"media://{key}"}
    before = len(await whatsapp.uploads())
    for position, recipient in enumerate([contact, "628990000011", "628990000012"]):
        await adapter.send(device_id=account.device_id, to=recipient, key=key_of(f"{key}{position}"), **file)
    assert len(await whatsapp.uploads()) - before == 1
    assert (await adapter.reads()).count(f"media://{key}") == 1


async def test_a_refused_file_is_uploaded_anew_the_next_time(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str, key: str
) -> None:
    file = {"kind": "image", "file": b64encode(make_jpeg()).decode(), "media_url": f"media://{key}"}
    await whatsapp.answer_messages(answer="refuse", code=415, recipient=contact, times=1)
    before = len(await whatsapp.uploads())
    with pytest.raises(Refused, match=r"Rejected.*415"):
        await adapter.send(device_id=account.device_id, to=contact, key=key, **file)
    await adapter.send(device_id=account.device_id, to=contact, key=key_of(key), **file)
    assert len(await whatsapp.uploads()) - before == 2


async def test_an_upload_that_fails_transmits_nothing_and_says_so(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str, key: str
) -> None:
    file = {"kind": "image", "file": b64encode(make_jpeg()).decode(), "media_url": f"media://{key}"}
    await whatsapp.set_media_status(status=503)
    with pytest.raises(Refused, match=r"Rejected.*503"):
        await adapter.send(device_id=account.device_id, to=contact, key=key, **file)
    assert await seen_by(whatsapp, account, contact) == []
    assert await adapter.find_attempt(device_id=account.device_id, key=key) == ["not_attempted", None]
    await whatsapp.set_media_status(status=200)
    await adapter.send(device_id=account.device_id, to=contact, key=key, **file)
    assert len(await seen_by(whatsapp, account, contact)) == 1


async def test_a_file_that_is_gone_is_a_rejection(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str, key: str
) -> None:
    with pytest.raises(Refused, match="Rejected: media_missing"):
        await adapter.send(device_id=account.device_id, to=contact, key=key, kind="image", media_url=f"media://{key}")
    assert await seen_by(whatsapp, account, contact) == []


@pytest.mark.parametrize(("code", "error"), [(463, "Restricted"), (429, "RateLimited"), (479, "Rejected"), (500, "Rejected")])
async def test_a_refusal_is_told_by_its_code(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str, key: str, code: int, error: str
) -> None:
    await whatsapp.answer_messages(answer="refuse", code=code, recipient=contact, times=1)
    with pytest.raises(Refused, match=f"^{error}: server returned error {code}"):
        await adapter.send(device_id=account.device_id, to=contact, key=key, text="first")
    await adapter.send(device_id=account.device_id, to=contact, key=key_of(key), text="second")
    assert [seen.answer for seen in await seen_by(whatsapp, account, contact)] == [f"refuse:{code}", "ack"]


async def test_a_number_without_an_account_is_told_so_and_sent_nothing(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str, key: str
) -> None:
    await whatsapp.unregister(numbers=[contact])
    with pytest.raises(Refused, match=r"^NotOnWhatsApp"):
        await adapter.send(device_id=account.device_id, to=contact, key=key, text="hello")
    assert await seen_by(whatsapp, account, contact) == []


async def test_a_poll_that_is_none_is_a_rejection(adapter: Adapter, account: Account, contact: str, key: str) -> None:
    with pytest.raises(Refused, match=r"^Rejected: (.|\n)*options"):
        await adapter.send(device_id=account.device_id, to=contact, key=key, kind="poll", text='{"question": "When?"}')


async def test_numbers_are_checked(whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str) -> None:
    nobody = "628990000013"
    await whatsapp.unregister(numbers=[nobody])
    found = await adapter.is_on_whatsapp(device_id=account.device_id, phones=[contact, nobody])
    assert found == {contact: True, nobody: False}


async def test_a_picture_has_an_address_where_there_is_one(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str
) -> None:
    assert await adapter.picture_url(device_id=account.device_id, chat=contact) is None
    await whatsapp.set_picture(number=contact, content="")
    found = await adapter.picture_url(device_id=account.device_id, chat=contact)
    assert found == f"https://mmg.whatsapp.net/pictures/{contact}"


async def test_a_cancelled_send_keeps_its_device_busy_until_it_has_ended(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str, key: str
) -> None:
    await whatsapp.answer_messages(answer="ack", recipient=contact, after=1.5, times=1)
    with pytest.raises(Refused, match=r"^TimeoutError"):
        await adapter.send(device_id=account.device_id, to=contact, key=key, text="slow", give_up_after=0.5)
    with pytest.raises(Refused, match=r"^NotConnected: busy"):
        await adapter.send(device_id=account.device_id, to=contact, key=key_of(key), text="at once")
    [seen] = await seen_by(whatsapp, account, contact)
    assert await adapter.find_attempt(device_id=account.device_id, key=key) == ["attempted", seen.id]
    await asyncio.sleep(1.5)
    await adapter.send(device_id=account.device_id, to=contact, key=key_of(key), text="later")
    assert [seen.text for seen in await seen_by(whatsapp, account, contact)] == ["slow", "later"]


async def test_two_sends_of_one_device_at_once_are_no_two_transmissions(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str, key: str
) -> None:
    await whatsapp.answer_messages(answer="ack", recipient=contact, after=0.3)
    sends = [adapter.send(device_id=account.device_id, to=contact, key=key_of(f"{key}{number}"), text="x") for number in (1, 2)]
    outcomes = await asyncio.gather(*sends, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Refused", "dict"]
    assert len(await seen_by(whatsapp, account, contact)) == 1


async def test_nothing_connects_while_a_device_is_used(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str, key: str
) -> None:
    await whatsapp.answer_messages(answer="ack", recipient=contact, after=1.0)
    sending = asyncio.create_task(adapter.send(device_id=account.device_id, to=contact, key=key, text="hello"))
    await whatsapp.wait_for_transmissions(account.number)
    connecting = asyncio.create_task(adapter.connect(device_id=account.device_id, jid=account.jid))
    await asyncio.sleep(0.3)
    assert not connecting.done()
    await sending
    await connecting
