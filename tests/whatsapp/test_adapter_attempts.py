"""What the session files say of attempts after crashes, log-outs and at any other time."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import pytest

from siaran.gateway.session_files import list_sessions
from tests.waiting import eventually
from tests.whatsapp.adapter import Account, key_of, link_accounts, run_adapter, start_adapter
from tests.whatsapp_server.channel import Refused
from tests.whatsapp_server.harness import WhatsApp

pytestmark = pytest.mark.whatsapp


@pytest.fixture
def sessions() -> Iterator[Path]:
    """A folder of session files."""
    with TemporaryDirectory(prefix="siaran-") as folder:
        yield Path(folder)


async def test_an_attempt_is_known_from_its_transmission_on(whatsapp: WhatsApp, sessions: Path, contact: str) -> None:
    key, other = key_of("known"), key_of("unknown")
    async with run_adapter(whatsapp, sessions, 1) as (adapter, [account]):
        assert await adapter.find_attempt(device_id=account.device_id, key=key) == ["not_attempted", None]
        sent = await adapter.send(device_id=account.device_id, to=contact, key=key, text="hello")
        assert await adapter.find_attempt(device_id=account.device_id, key=key) == ["attempted", sent["whatsapp_id"]]
        assert await adapter.find_attempt(device_id=account.device_id, key=other) == ["not_attempted", None]
        assert await adapter.find_attempt(device_id=account.device_id, key=key, generation=2) == ["cannot_tell", None]


async def test_a_killed_process_leaves_the_exact_id_of_what_it_transmitted(
    whatsapp: WhatsApp, sessions: Path, contact: str
) -> None:
    key = key_of("killed")
    async with run_adapter(whatsapp, sessions, 1) as (adapter, [account]):
        await whatsapp.answer_messages(answer="ignore", number=account.number)
        sending = asyncio.create_task(adapter.send(device_id=account.device_id, to=contact, key=key, text="hello"))
        [seen] = await whatsapp.wait_for_transmissions(account.number)
        await adapter.kill()
        with pytest.raises(ConnectionError):
            await sending
    successor = await start_adapter(whatsapp, sessions)
    try:
        assert await successor.find_attempt(device_id=account.device_id, key=key) == ["attempted", seen.id]
        await successor.connect(device_id=account.device_id, jid=account.jid)
        await whatsapp.send_receipt(number=account.number, recipient=contact, ids=[seen.id], kind="delivered")
        await successor.wait_for("Receipt", whatsapp_id=seen.id, kind="delivered")
        assert await successor.find_attempt(device_id=account.device_id, key=key) == ["attempted", seen.id]
    finally:
        await successor.kill()
    assert len(await whatsapp.record(account.number)) == 1


async def test_a_log_out_leaves_nothing_to_tell(whatsapp: WhatsApp, sessions: Path, contact: str) -> None:
    key = key_of("logged out")
    async with run_adapter(whatsapp, sessions, 1) as (adapter, [account]):
        await adapter.send(device_id=account.device_id, to=contact, key=key, text="hello")
        await whatsapp.unlink(number=account.number)
        await adapter.wait_for_state(account, "logged_out", "logged_out")

        async def forgotten() -> bool:
            return bool(await adapter.find_attempt(device_id=account.device_id, key=key) == ["cannot_tell", None])

        await eventually(forgotten)


async def test_a_file_that_is_locked_is_no_answer(whatsapp: WhatsApp, sessions: Path) -> None:
    [account] = await link_accounts(whatsapp, sessions, 1)
    adapter = await start_adapter(whatsapp, sessions)
    try:
        with closing(sqlite3.connect(account.session(sessions))) as writer:
            writer.execute("PRAGMA locking_mode = EXCLUSIVE")
            writer.execute("CREATE TABLE lock (x)")
            writer.commit()
            with pytest.raises(Refused, match=r"^NotConnected: the session file cannot be read: database is locked"):
                await adapter.find_attempt(device_id=account.device_id, key=key_of("locked"))
        assert await adapter.find_attempt(device_id=account.device_id, key=key_of("locked")) == ["not_attempted", None]
    finally:
        await adapter.kill()


async def test_a_file_can_be_asked_while_the_client_writes_to_it(whatsapp: WhatsApp, sessions: Path, contact: str) -> None:
    async with run_adapter(whatsapp, sessions, 1) as (adapter, [account]):

        async def send_many() -> list[str]:
            sends = [(f"busy {number}", {"device_id": account.device_id, "to": contact, "text": "x"}) for number in range(20)]
            return [(await adapter.send(key=key_of(name), **message))["whatsapp_id"] for name, message in sends]

        sending = asyncio.create_task(send_many())
        answers = set()
        while not sending.done():
            answers.add((await adapter.find_attempt(device_id=account.device_id, key=key_of("never")))[0])
        ids = await sending
        assert answers == {"not_attempted"}
        found = [
            (await adapter.find_attempt(device_id=account.device_id, key=key_of(f"busy {number}")))[1] for number in range(20)
        ]
        assert found == ids


async def test_a_session_without_its_link_is_logged_out(whatsapp: WhatsApp, sessions: Path) -> None:
    [account] = await link_accounts(whatsapp, sessions, 1)
    with closing(sqlite3.connect(account.session(sessions))) as session:
        session.execute("PRAGMA foreign_keys = ON")
        session.execute("DELETE FROM whatsmeow_device")
        session.commit()
    adapter = await start_adapter(whatsapp, sessions)
    try:
        with pytest.raises(Refused, match=r"^LoggedOut"):
            await adapter.connect(device_id=account.device_id, jid=account.jid)
        assert await adapter.state(device_id=account.device_id) == "logged_out"
        with pytest.raises(Refused, match=r"^NotConnected: this server does not have the session file"):
            await adapter.connect(device_id=account.device_id, jid=account.jid, generation=2)
    finally:
        await adapter.kill()


async def test_a_session_of_another_account_is_not_used(whatsapp: WhatsApp, sessions: Path) -> None:
    [account] = await link_accounts(whatsapp, sessions, 1)
    adapter = await start_adapter(whatsapp, sessions)
    try:
        with pytest.raises(Refused, match=r"^LoggedOut"):
            await adapter.connect(device_id=account.device_id, jid="628990000021:1@s.whatsapp.net")
        assert len((await whatsapp.status())["logins"][account.jid]) == 1
    finally:
        await adapter.kill()


async def test_a_session_is_readable_by_its_owner_only(whatsapp: WhatsApp, sessions: Path) -> None:
    folder = sessions / "inner"
    [account] = await link_accounts(whatsapp, folder, 1)
    modes = {path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert (folder.stat().st_mode & 0o777, modes) == (0o700, {0o600})
    assert account.session(folder).is_file()


async def test_a_log_out_ends_the_link_and_removes_the_file(whatsapp: WhatsApp, sessions: Path, contact: str) -> None:
    async with run_adapter(whatsapp, sessions, 2) as (adapter, [leaving, staying]):
        await adapter.log_out(device_id=leaving.device_id)
        assert list_sessions(sessions) == {(UUID(staying.device_id), 1)}
        with pytest.raises(Refused, match="no linked device"):
            await whatsapp.drop(number=leaving.number)
        with pytest.raises(Refused, match=r"^NotConnected"):
            await adapter.send(device_id=leaving.device_id, to=contact, key=key_of("left"), text="hello")
        await adapter.send(device_id=staying.device_id, to=contact, key=key_of("stays"), text="hello")
    assert [seen.number for seen in await whatsapp.record() if seen.recipient == contact] == [staying.number]


async def test_two_links_of_one_account_are_two_connections(whatsapp: WhatsApp, sessions: Path, contact: str) -> None:
    [account] = await link_accounts(whatsapp, sessions, 1)
    linking = await start_adapter(whatsapp, sessions)
    other_id = "7b6f3f0e-5d54-4a51-9b5c-0f6a2f1f0a01"
    other = Account(
        other_id, account.number, await whatsapp.scan(qr=await linking.begin_link(device_id=other_id), number=account.number)
    )
    await linking.end_link(device_id=other_id)
    await linking.kill()
    adapter = await start_adapter(whatsapp, sessions)
    try:
        for one in (account, other):
            await adapter.connect(device_id=one.device_id, jid=one.jid)
        for one in (account, other):
            await adapter.send(device_id=one.device_id, to=contact, key=key_of(one.device_id), text=one.jid)
        assert [(seen.device, seen.text) for seen in await whatsapp.record(account.number)] == [
            (1, account.jid),
            (2, other.jid),
        ]
    finally:
        await adapter.kill()
