"""Linking the real client to an account."""

import pytest

from tests.whatsapp_server.channel import Refused
from tests.whatsapp_server.harness import RealClient, WhatsApp

pytestmark = pytest.mark.whatsapp


async def test_a_scanned_qr_code_links_the_client_and_brings_it_online(whatsapp: WhatsApp, number: str) -> None:
    client = await whatsapp.start_client(number)
    qr = (await client.wait_for("QR"))["code"]
    linked = await whatsapp.scan(qr=qr, number=number)
    paired = await client.wait_for("PairStatus")
    await client.wait_for("Connected")
    assert linked == f"{number}:1@s.whatsapp.net"
    assert paired["ID"]["User"] == number
    assert (await whatsapp.status())["logins"][linked] != []


async def test_a_link_that_was_interrupted_at_the_end_holds(whatsapp: WhatsApp, number: str) -> None:
    client = await whatsapp.start_client(number)
    await whatsapp.scan(qr=(await client.wait_for("QR"))["code"], number=number, interrupted=True)
    await client.wait_for("PairStatus")
    await client.kill()
    resumed = await whatsapp.start_client(number)
    await resumed.wait_for("Connected")


async def test_a_code_typed_in_at_the_phone_links_the_client(whatsapp: WhatsApp, number: str) -> None:
    client = await whatsapp.start_client(number)
    await client.wait_for("QR")
    code = await client.ask_for_code(phone=number)
    linked = await whatsapp.enter_code(code=code, number=number)
    await client.wait_for("Connected")
    assert linked == f"{number}:1@s.whatsapp.net"


async def test_a_wrong_code_links_nothing(whatsapp: WhatsApp, number: str) -> None:
    client = await whatsapp.start_client(number)
    await client.wait_for("QR")
    await client.ask_for_code(phone=number)
    with pytest.raises(Refused, match="wrong code"):
        await whatsapp.enter_code(code="1234-5678", number=number)
    assert number not in (await whatsapp.status())["online"]


async def test_a_killed_client_resumes_its_session_without_a_code(whatsapp: WhatsApp, client: RealClient, number: str) -> None:
    await client.kill()
    resumed = await whatsapp.start_client(number)
    await resumed.wait_for("Connected")
    assert [event for event in await resumed.events() if event["type"] == "QR"] == []
    assert len((await whatsapp.status())["logins"][f"{number}:1@s.whatsapp.net"]) == 2


async def test_a_client_that_logs_out_is_linked_no_more(whatsapp: WhatsApp, client: RealClient, number: str) -> None:
    await client.log_out()
    assert number not in (await whatsapp.status())["online"]
    with pytest.raises(Refused, match="no linked device"):
        await whatsapp.drop(number=number)


async def test_a_number_linked_anew_is_another_device(whatsapp: WhatsApp, client: RealClient, number: str) -> None:
    await whatsapp.unlink(number=number)
    await client.wait_for("LoggedOut")
    again = await whatsapp.start_client(f"{number}-again")
    linked = await whatsapp.scan(qr=(await again.wait_for("QR"))["code"], number=number)
    await again.wait_for("Connected")
    assert linked == f"{number}:2@s.whatsapp.net"
