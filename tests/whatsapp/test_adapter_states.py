"""What the transport reports of connections that end, and what can be sent over them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.waiting import eventually
from tests.whatsapp.adapter import Account, Adapter, key_of, link_accounts, run_adapter, start_adapter
from tests.whatsapp_server.channel import Refused
from tests.whatsapp_server.harness import WhatsApp

pytestmark = pytest.mark.whatsapp

ACCOUNTS = 11


@pytest.fixture(scope="module")
async def connected(whatsapp_server: WhatsApp) -> AsyncIterator[tuple[Adapter, Iterator[Account]]]:
    """One transport with an account for each test."""
    with TemporaryDirectory(prefix="siaran-") as folder:
        async with run_adapter(whatsapp_server, Path(folder), ACCOUNTS) as (adapter, accounts):
            yield adapter, iter(accounts)


@pytest.fixture
def adapter(whatsapp: WhatsApp, connected: tuple[Adapter, Iterator[Account]]) -> Adapter:
    return connected[0]


@pytest.fixture
def account(connected: tuple[Adapter, Iterator[Account]]) -> Account:
    return next(connected[1])


async def send(adapter: Adapter, account: Account, contact: str, name: str) -> None:
    await adapter.send(device_id=account.device_id, to=contact, key=key_of(f"{contact} {name}"), text=name)


async def test_a_dropped_connection_comes_back_and_sends(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str
) -> None:
    assert await adapter.state(device_id=account.device_id) == "online"
    await whatsapp.drop(number=account.number)
    await adapter.wait_for_state(account, "offline", "dropped")
    states = [(event["state"], event["detail"]) for event in await adapter.heard(account, "StateChanged")]
    assert states[:2] == [("online", ""), ("offline", "dropped")]
    await adapter.wait_until_online(account)
    await send(adapter, account, contact, "after")
    assert [seen.text for seen in await whatsapp.record(account.number)] == ["after"]


async def test_a_server_that_restarts_is_connected_to_again(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str
) -> None:
    await whatsapp.end_stream(number=account.number, code="503")
    await adapter.wait_for_state(account, "offline", "dropped")
    await adapter.wait_until_online(account)
    await send(adapter, account, contact, "after")


async def test_nothing_is_transmitted_while_a_device_is_offline(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str
) -> None:
    await whatsapp.reach(state="refusing")
    await whatsapp.drop(number=account.number)
    await adapter.wait_for_state(account, "offline", "dropped")
    with pytest.raises(Refused, match=r"^NotConnected"):
        await send(adapter, account, contact, "offline")
    assert await whatsapp.record(account.number) == []
    assert not await adapter.is_over(device_id=account.device_id)
    await whatsapp.reach(state="up")
    await adapter.wait_until_online(account)


@pytest.mark.parametrize(
    ("failure", "state", "detail", "error"),
    [
        ({"reason": 402, "code": 101, "expire": 3600}, "banned", "ban:3600", "Banned"),
        ({"reason": 403}, "logged_out", "logged_out:main_device_gone", "LoggedOut"),
        ({"reason": 405}, "offline", "client_outdated", "NotConnected"),
        ({"reason": 409}, "offline", "connect_refused", "NotConnected"),
    ],
)
async def test_a_refused_login_ends_the_connection_for_good(
    whatsapp: WhatsApp,
    adapter: Adapter,
    account: Account,
    contact: str,
    failure: dict[str, int],
    state: str,
    detail: str,
    error: str,
) -> None:
    await whatsapp.refuse_logins(number=account.number, **failure)
    await whatsapp.drop(number=account.number)
    await adapter.wait_for_state(account, state, detail)
    assert await adapter.is_over(device_id=account.device_id)
    await whatsapp.allow_logins(number=account.number)
    with pytest.raises(Refused, match=r"^NotConnected: "):  # whatever has become of it, nothing was transmitted
        await send(adapter, account, contact, "refused")
    with pytest.raises(Refused, match=rf"^{error}: "):
        await adapter.is_on_whatsapp(device_id=account.device_id, phones=[contact])
    assert await whatsapp.record(account.number) == []
    assert await adapter.state(device_id=account.device_id) == state


async def test_a_device_removed_during_a_send_leaves_its_outcome_open(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str
) -> None:
    await whatsapp.answer_messages(answer="ignore", number=account.number)
    sending = asyncio.create_task(send(adapter, account, contact, "in flight"))
    await whatsapp.wait_for_transmissions(account.number)
    await whatsapp.unlink(number=account.number)
    with pytest.raises(Refused, match=r"^OutcomeUnknown"):
        await sending
    await adapter.wait_for_state(account, "logged_out", "logged_out")
    with pytest.raises(Refused, match=r"^NotConnected"):
        await send(adapter, account, contact, "after")
    assert [seen.text for seen in await whatsapp.record(account.number)] == ["in flight"]


async def test_a_refusal_of_a_message_that_was_repeated_leaves_its_outcome_open(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str
) -> None:
    await whatsapp.answer_messages(answer="refuse", code=429, number=account.number, times=1)
    await whatsapp.answer_messages(answer="drop", number=account.number, times=1)
    with pytest.raises(Refused, match=r"^OutcomeUnknown"):
        await send(adapter, account, contact, "twice")
    first, second = await whatsapp.record(account.number)
    assert (first.answer, second.answer, first.id) == ("drop", "refuse:429", second.id)
    attempt = await adapter.find_attempt(device_id=account.device_id, key=key_of(f"{contact} twice"))
    assert attempt == ["attempted", first.id]


async def test_a_device_that_was_let_go_of_sends_nothing_and_is_still_heard(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str
) -> None:
    await adapter.disconnect(device_id=account.device_id)
    assert await adapter.state(device_id=account.device_id) == "offline"
    with pytest.raises(Refused, match=r"^NotConnected"):
        await send(adapter, account, contact, "let go")
    await whatsapp.send_text(number=account.number, sender=contact, text="STOP")
    heard = await adapter.wait_for("Incoming", device_id=account.device_id)
    await whatsapp.unlink(number=account.number)
    await asyncio.sleep(0.5)
    assert heard["text"] == "STOP"
    assert [event["state"] for event in await adapter.heard(account, "StateChanged")] == ["online"]


async def test_a_receipt_that_the_library_cannot_name_ends_the_connection_and_loses_no_message(
    whatsapp: WhatsApp, adapter: Adapter, account: Account, contact: str
) -> None:
    await whatsapp.send_receipt(number=account.number, recipient=contact, ids=["BROKEN"], kind="server-error")
    await adapter.wait_for_state(account, "offline", "deaf")
    assert await adapter.is_over(device_id=account.device_id)

    async def away() -> bool:
        return account.number not in (await whatsapp.status())["online"]

    await eventually(away)
    await whatsapp.send_text(number=account.number, sender=contact, text="STOP")
    assert (await whatsapp.status())["waiting"][account.number] == 1
    assert [event["whatsapp_id"] for event in await adapter.heard(account, "Receipt")] == []


async def test_a_connection_taken_over_elsewhere_sends_no_more(whatsapp: WhatsApp, contact: str) -> None:
    with TemporaryDirectory(prefix="siaran-") as folder:
        async with run_adapter(whatsapp, Path(folder), 1) as (first, [account]):
            second = await start_adapter(whatsapp, Path(folder))
            try:
                await second.connect(device_id=account.device_id, jid=account.jid)
                await first.wait_for_state(account, "replaced", "replaced")
                with pytest.raises(Refused, match=r"^NotConnected"):
                    await send(first, account, contact, "from the first")
                await send(second, account, contact, "from the second")
            finally:
                await second.kill()
    assert [seen.text for seen in await whatsapp.record(account.number)] == ["from the second"]


async def test_a_removed_device_learns_it_when_it_connects(whatsapp: WhatsApp) -> None:
    with TemporaryDirectory(prefix="siaran-") as folder:
        [account] = await link_accounts(whatsapp, Path(folder), 1)
        await whatsapp.unlink(number=account.number)
        adapter = await start_adapter(whatsapp, Path(folder))
        try:
            with pytest.raises(Refused, match=r"^LoggedOut"):
                await adapter.connect(device_id=account.device_id, jid=account.jid)
            with pytest.raises(Refused, match=r"^LoggedOut"):
                await adapter.connect(device_id=account.device_id, jid=account.jid)
        finally:
            await adapter.kill()


async def test_without_a_network_connecting_fails_at_once_and_can_be_tried_again(whatsapp: WhatsApp) -> None:
    with TemporaryDirectory(prefix="siaran-") as folder:
        [account] = await link_accounts(whatsapp, Path(folder), 1)
        adapter = await start_adapter(whatsapp, Path(folder))
        try:
            await whatsapp.reach(state="refusing")
            with pytest.raises(Refused, match=r"^NotConnected: unreachable"):
                await adapter.connect(device_id=account.device_id, jid=account.jid)
            await whatsapp.reach(state="up")
            await adapter.connect(device_id=account.device_id, jid=account.jid)
            assert await adapter.state(device_id=account.device_id) == "online"
        finally:
            await adapter.kill()


async def test_a_silent_server_delays_a_device_and_stops_no_other(whatsapp: WhatsApp, contact: str) -> None:
    with TemporaryDirectory(prefix="siaran-") as folder:
        waiting, other = await link_accounts(whatsapp, Path(folder), 2)
        adapter = await start_adapter(whatsapp, Path(folder))
        try:
            await whatsapp.freeze(number=waiting.number)
            with pytest.raises(Refused, match=r"^NotConnected: connecting"):
                await adapter.connect(device_id=waiting.device_id, jid=waiting.jid)
            await adapter.connect(device_id=other.device_id, jid=other.jid)
            await send(adapter, other, contact, "meanwhile")
            await whatsapp.thaw(number=waiting.number)
            await adapter.wait_for_state(waiting, "online")
            await send(adapter, waiting, contact, "at last")
        finally:
            await adapter.kill()
    assert {seen.text for seen in await whatsapp.record() if seen.recipient == contact} == {"meanwhile", "at last"}


async def test_a_session_file_that_is_away_for_a_moment_is_no_log_out(whatsapp: WhatsApp) -> None:
    with TemporaryDirectory(prefix="siaran-") as folder:
        [account] = await link_accounts(whatsapp, Path(folder), 1)
        adapter = await start_adapter(whatsapp, Path(folder))
        try:
            await whatsapp.freeze(number=account.number)
            connecting = asyncio.create_task(adapter.connect(device_id=account.device_id, jid=account.jid))
            await asyncio.sleep(1)
            session = account.session(Path(folder))
            session.rename(session.with_name("away"))
            with pytest.raises(Refused, match=r"^NotConnected"):
                await connecting
            assert await adapter.state(device_id=account.device_id) == "connecting"
        finally:
            await adapter.kill()


async def test_a_frozen_connection_is_told_and_comes_back(whatsapp: WhatsApp, contact: str) -> None:
    with TemporaryDirectory(prefix="siaran-") as folder:
        async with run_adapter(whatsapp, Path(folder), 1) as (adapter, [account]):
            assert await adapter.frozen_since(device_id=account.device_id) is None
            await whatsapp.freeze(number=account.number)
            await adapter.wait_for_state(account, "offline", "frozen", within=60)
            assert await adapter.frozen_since(device_id=account.device_id) is not None
            with pytest.raises(Refused, match=r"^NotConnected: frozen"):
                await send(adapter, account, contact, "frozen")
            await whatsapp.thaw(number=account.number)
            await adapter.wait_until_online(account, within=60)
            assert await adapter.frozen_since(device_id=account.device_id) is None
            await send(adapter, account, contact, "thawed")
    assert [seen.text for seen in await whatsapp.record(account.number)] == ["thawed"]


async def test_closing_passes_on_what_has_come_in_and_ends(whatsapp: WhatsApp, contact: str) -> None:
    with TemporaryDirectory(prefix="siaran-") as folder:
        async with run_adapter(whatsapp, Path(folder), 2) as (adapter, accounts):
            for account in accounts:
                await whatsapp.send_text(number=account.number, sender=contact, text="last words")
            async with asyncio.timeout(10):
                events = await adapter.close()
            assert [event["text"] for event in events if event["type"] == "Incoming"] == ["last words"] * 2
            online = (await whatsapp.status())["online"]
            assert not {account.number for account in accounts} & set(online)


async def test_closing_ends_also_the_connection_that_is_just_being_made(whatsapp: WhatsApp) -> None:
    with TemporaryDirectory(prefix="siaran-") as folder:
        accounts = await link_accounts(whatsapp, Path(folder), 3)
        first, second, third = accounts
        adapter = await start_adapter(whatsapp, Path(folder))
        try:
            await adapter.connect(device_id=first.device_id, jid=first.jid)
            await whatsapp.freeze(number=second.number)
            connecting = [
                asyncio.create_task(adapter.connect(device_id=account.device_id, jid=account.jid))
                for account in (second, third)
            ]
            await asyncio.sleep(1)
            closing = asyncio.create_task(adapter.close())
            await asyncio.sleep(1)
            await whatsapp.thaw(number=second.number)
            async with asyncio.timeout(12):
                await closing
            outcomes = await asyncio.gather(*connecting, return_exceptions=True)
            assert isinstance(outcomes[1], Refused)
            await asyncio.sleep(1)
            online = (await whatsapp.status())["online"]
            assert not {account.number for account in accounts} & set(online)
        finally:
            await adapter.kill()
