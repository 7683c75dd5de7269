"""How connections of the real client end, and which of them come back."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from tests.waiting import eventually
from tests.whatsapp_server.channel import Refused
from tests.whatsapp_server.harness import RealClient, WhatsApp

pytestmark = pytest.mark.whatsapp


def count_sessions(whatsapp: WhatsApp, number: str) -> int:
    """How many linked devices the client's session file still holds."""
    with closing(sqlite3.connect(whatsapp.folder / f"{number}.db")) as session:
        return int(session.execute("SELECT count(*) FROM whatsmeow_device").fetchone()[0])


async def test_a_dropped_connection_comes_back(whatsapp: WhatsApp, client: RealClient, number: str) -> None:
    position = await client.position()
    await whatsapp.drop(number=number)
    await client.wait_for("Disconnected", after=position)
    await client.wait_for("Connected", after=position)
    assert len((await whatsapp.status())["logins"][f"{number}:1@s.whatsapp.net"]) == 2


async def test_a_server_that_restarts_is_connected_to_again(whatsapp: WhatsApp, client: RealClient, number: str) -> None:
    position = await client.position()
    await whatsapp.end_stream(number=number, code="503")
    await client.wait_for("Disconnected", after=position)
    await client.wait_for("Connected", after=position)


async def test_a_second_connection_of_a_session_replaces_the_first(
    whatsapp: WhatsApp, client: RealClient, number: str, contact: str
) -> None:
    second = await whatsapp.start_client(number)
    await second.wait_for("Connected")
    await client.wait_for("StreamReplaced")
    await second.send_text(to=contact, text="from the second")
    assert (await whatsapp.status())["online"].count(number) == 1
    assert count_sessions(whatsapp, number) == 1


async def test_a_device_removed_on_the_phone_loses_its_session(whatsapp: WhatsApp, client: RealClient, number: str) -> None:
    await whatsapp.unlink(number=number)
    await client.wait_for("LoggedOut")
    await eventually(lambda: count_sessions(whatsapp, number) == 0)


async def test_a_removed_device_learns_it_at_its_next_login(whatsapp: WhatsApp, client: RealClient, number: str) -> None:
    await client.kill()
    await whatsapp.unlink(number=number)
    resumed = await whatsapp.start_client(number)
    logged_out = await resumed.wait_for("LoggedOut")
    assert logged_out["OnConnect"]
    await eventually(lambda: count_sessions(whatsapp, number) == 0)


async def test_a_temporary_ban_says_how_long_it_lasts_and_keeps_the_session(
    whatsapp: WhatsApp, client: RealClient, number: str
) -> None:
    await whatsapp.ban(number=number, seconds=3600)
    ban = await client.wait_for("TemporaryBan")
    assert ban["Code"] == "SEND_TO_TOO_MANY_PEOPLE"
    assert count_sessions(whatsapp, number) == 1


async def test_a_lasting_ban_logs_the_client_out(whatsapp: WhatsApp, client: RealClient, number: str) -> None:
    await whatsapp.refuse_logins(number=number, reason=403)
    await whatsapp.drop(number=number)
    await client.wait_for("LoggedOut")


async def test_a_send_in_flight_ends_when_its_device_is_removed(
    whatsapp: WhatsApp, client: RealClient, number: str, contact: str
) -> None:
    await whatsapp.answer_messages(answer="ignore", number=number)
    sending = asyncio.create_task(client.send_text(to=contact, text="hello"))
    await whatsapp.wait_for_transmissions(number)
    await whatsapp.unlink(number=number)
    with pytest.raises(Refused, match="websocket disconnected before message send returned response"):
        await sending
    await eventually(lambda: count_sessions(whatsapp, number) == 0)
    with pytest.raises(Refused, match="the store doesn't contain a device JID"):
        await client.send_text(to=contact, text="after")
    assert [seen.text for seen in await whatsapp.record(number)] == ["hello"]


async def test_a_send_without_a_connection_transmits_nothing(
    whatsapp: WhatsApp, client: RealClient, number: str, contact: str
) -> None:
    position = await client.position()
    await whatsapp.reach(state="refusing")
    await whatsapp.drop(number=number)
    await client.wait_for("Disconnected", after=position)
    with pytest.raises(Refused, match="websocket not connected"):
        await client.send_text(to=contact, text="hello")
    assert await whatsapp.record(number) == []


async def test_an_outdated_client_is_told_so(whatsapp: WhatsApp, client: RealClient, number: str) -> None:
    await whatsapp.refuse_logins(number=number, reason=405)
    await whatsapp.drop(number=number)
    await client.wait_for("ClientOutdated")


async def test_a_device_that_is_allowed_again_comes_online(whatsapp: WhatsApp, client: RealClient, number: str) -> None:
    await whatsapp.ban(number=number, seconds=60)
    await client.wait_for("TemporaryBan")
    await client.kill()
    await whatsapp.allow_logins(number=number)
    resumed = await whatsapp.start_client(number)
    await resumed.wait_for("Connected")


async def test_a_frozen_peer_answers_nothing_until_it_thaws(
    whatsapp: WhatsApp, client: RealClient, number: str, contact: str
) -> None:
    await client.send_text(to=contact, text="before")
    await whatsapp.freeze(number=number)
    sending = asyncio.create_task(client.send_text(to=contact, text="into the silence"))
    await asyncio.sleep(0.5)
    assert not sending.done()
    assert [seen.text for seen in await whatsapp.record(number)] == ["before"]
    await whatsapp.thaw(number=number)
    await sending
    assert [seen.text for seen in await whatsapp.record(number)] == ["before", "into the silence"]


async def test_a_network_that_is_gone_is_tried_again(whatsapp: WhatsApp, client: RealClient, number: str) -> None:
    position = await client.position()
    await whatsapp.reach(state="refusing")
    await whatsapp.drop(number=number)
    await client.wait_for("Disconnected", after=position)
    await asyncio.sleep(0.5)
    assert number not in (await whatsapp.status())["online"]
    await whatsapp.reach(state="up")
    await client.wait_for("Connected", after=position)


async def test_a_client_that_starts_without_a_network_gives_up_at_once(whatsapp: WhatsApp, number: str) -> None:
    await whatsapp.reach(state="refusing")
    client = await whatsapp.start_client(number)
    assert (await client.wait_for("Ended"))["error"] != ""


async def test_a_server_that_accepts_and_says_nothing_keeps_the_client_waiting(
    whatsapp: WhatsApp, client: RealClient, number: str
) -> None:
    await client.kill()
    await whatsapp.reach(state="silent")
    waiting = await whatsapp.start_client(number)
    await asyncio.sleep(0.5)
    assert await waiting.events() == []
    assert number not in (await whatsapp.status())["online"]
