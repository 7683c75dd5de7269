"""Connections to the simulated network: who holds a device, what ends it, and what brings it back."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest

from siaran.errors import NotFound
from siaran.gateway.interface import Banned, DeviceRef, DeviceState, LoggedOut, NotConnected, StateChanged
from siaran.gateway.simulated_network import SimulatedNetwork
from tests.gateway.conftest import Client, NewClient
from tests.gateway.messages import connected, linked, recorded, sent
from tests.waiting import eventually


def states(client: Client) -> list[tuple[DeviceState, str]]:
    return [(event.state, event.detail) for event in client.of(StateChanged)]


async def test_connecting_a_linked_device_brings_it_online(network: SimulatedNetwork, client: Client) -> None:
    device = await linked(network)
    assert client.transport.state(device.id) is DeviceState.OFFLINE
    await client.transport.connect(device)
    await client.transport.connect(device)
    assert client.transport.state(device.id) is DeviceState.ONLINE
    await eventually(lambda: states(client) == [(DeviceState.ONLINE, "")])


async def test_a_device_that_was_never_linked_cannot_connect(network: SimulatedNetwork, client: Client) -> None:
    with pytest.raises(LoggedOut):
        await client.transport.connect(DeviceRef(uuid4(), "60123456789:1@s.whatsapp.net", 1))


async def test_an_older_link_cannot_connect(network: SimulatedNetwork, client: Client) -> None:
    device = await linked(network)
    await network.link(device.id, "60198765432")
    with pytest.raises(LoggedOut):
        await client.transport.connect(device)
    assert client.transport.state(device.id) is DeviceState.LOGGED_OUT


async def test_the_newest_connection_wins(network: SimulatedNetwork, new_client: NewClient) -> None:
    older, newer = await new_client(), await new_client()
    device = await connected(network, older.transport)

    await newer.transport.connect(device)

    await eventually(lambda: older.transport.state(device.id) is DeviceState.REPLACED)
    with pytest.raises(NotConnected):
        await sent(older.transport, device)
    await sent(newer.transport, device)
    await eventually(lambda: (DeviceState.REPLACED, "replaced") in states(older))
    assert newer.transport.state(device.id) is DeviceState.ONLINE
    assert len(await recorded(network)) == 1


async def test_an_older_connection_that_has_not_heard_of_it_cannot_send_either(
    network: SimulatedNetwork, new_client: NewClient
) -> None:
    await network.configure(latency_ms=(600, 600))
    older, newer = await new_client(), await new_client()
    device = await connected(network, older.transport)
    sending = asyncio.create_task(sent(older.transport, device))
    await asyncio.sleep(0.1)
    await newer.transport.connect(device)
    with pytest.raises(NotConnected):
        await sending
    assert await recorded(network) == []


async def test_replacing_can_be_switched_off_to_test_our_own_fence(network: SimulatedNetwork, new_client: NewClient) -> None:
    await network.configure(replace_connections=False)
    older, newer = await new_client(), await new_client()
    device = await connected(network, older.transport)
    await newer.transport.connect(device)
    await sent(older.transport, device)
    await sent(newer.transport, device)
    assert (await network.counts()).repeated == 1


async def test_a_dropped_device_comes_back_by_itself_when_the_drop_ends(network: SimulatedNetwork, client: Client) -> None:
    device = await connected(network, client.transport)
    await network.drop(device.id, 0.5)

    await eventually(lambda: client.transport.state(device.id) is DeviceState.OFFLINE)
    with pytest.raises(NotConnected):
        await sent(client.transport, device)
    await eventually(lambda: client.transport.state(device.id) is DeviceState.ONLINE)
    await sent(client.transport, device)
    await eventually(
        lambda: states(client) == [(DeviceState.ONLINE, ""), (DeviceState.OFFLINE, "dropped"), (DeviceState.ONLINE, "")]
    )


async def test_nobody_connects_a_dropped_device_before_it_is_restored(network: SimulatedNetwork, new_client: NewClient) -> None:
    first, second = await new_client(), await new_client()
    device = await connected(network, first.transport)
    await network.drop(device.id)
    await eventually(lambda: first.transport.state(device.id) is DeviceState.OFFLINE)
    for client in (first, second):
        with pytest.raises(NotConnected):
            await client.transport.connect(device)

    await network.restore(device.id)

    await second.transport.connect(device)
    await sent(second.transport, device)


async def test_restoring_a_dropped_device_brings_it_back_at_once(network: SimulatedNetwork, client: Client) -> None:
    device = await connected(network, client.transport)
    await network.drop(device.id, 3600)
    await eventually(lambda: client.transport.state(device.id) is DeviceState.OFFLINE)
    await network.restore(device.id)
    await eventually(lambda: client.transport.state(device.id) is DeviceState.ONLINE)


async def test_a_device_that_is_refused_during_a_drop_comes_online_when_it_ends(
    network: SimulatedNetwork, client: Client
) -> None:
    restored, timed = await linked(network), await linked(network, "60198765433")
    await network.drop(restored.id)
    await network.drop(timed.id, for_seconds=0.5)
    for device in (restored, timed):
        with pytest.raises(NotConnected):
            await client.transport.connect(device)
    assert states(client) == []

    await network.restore(restored.id)

    await eventually(lambda: client.transport.state(restored.id) is DeviceState.ONLINE)
    await eventually(lambda: client.transport.state(timed.id) is DeviceState.ONLINE)
    await eventually(lambda: states(client) == [(DeviceState.ONLINE, "")] * 2)


async def test_a_device_that_is_given_up_during_a_drop_stays_offline(network: SimulatedNetwork, client: Client) -> None:
    device = await linked(network)
    await network.drop(device.id, for_seconds=0.2)
    with pytest.raises(NotConnected):
        await client.transport.connect(device)

    await client.transport.disconnect(device.id)

    await asyncio.sleep(0.5)
    assert client.transport.state(device.id) is DeviceState.OFFLINE
    assert states(client) == []


async def test_a_banned_device_stays_banned_until_it_is_restored(network: SimulatedNetwork, client: Client) -> None:
    device = await connected(network, client.transport)
    await network.ban(device.id)
    await eventually(lambda: client.transport.state(device.id) is DeviceState.BANNED)
    for attempt in (lambda: sent(client.transport, device), lambda: client.transport.connect(device)):
        with pytest.raises(Banned):
            await attempt()
    assert states(client) == [(DeviceState.ONLINE, ""), (DeviceState.BANNED, "ban")]

    await network.restore(device.id)

    await client.transport.connect(device)
    assert client.transport.state(device.id) is DeviceState.ONLINE


async def test_a_ban_for_a_time_says_how_long(network: SimulatedNetwork, client: Client) -> None:
    device = await connected(network, client.transport)
    await network.ban(device.id, 3600)
    await eventually(lambda: client.transport.state(device.id) is DeviceState.BANNED)
    assert states(client)[-1] == (DeviceState.BANNED, "ban:3600")


async def test_a_log_out_on_the_phone_ends_the_link(network: SimulatedNetwork, client: Client) -> None:
    device = await connected(network, client.transport)
    await network.log_out(device.id)
    await eventually(lambda: client.transport.state(device.id) is DeviceState.LOGGED_OUT)
    for attempt in (lambda: sent(client.transport, device), lambda: client.transport.connect(device)):
        with pytest.raises(LoggedOut):
            await attempt()


async def test_what_happens_to_one_device_leaves_the_others_alone(network: SimulatedNetwork, client: Client) -> None:
    banned, other = await connected(network, client.transport), await connected(network, client.transport)
    await network.ban(banned.id)
    await eventually(lambda: client.transport.state(banned.id) is DeviceState.BANNED)
    await sent(client.transport, other)
    assert client.transport.state(other.id) is DeviceState.ONLINE


async def test_a_disconnected_device_reports_nothing_more(network: SimulatedNetwork, client: Client) -> None:
    device = await connected(network, client.transport)
    await client.transport.disconnect(device.id)
    await client.transport.disconnect(uuid4())
    with pytest.raises(NotConnected):
        await sent(client.transport, device)
    await network.ban(device.id)
    await asyncio.sleep(0.1)
    assert states(client) == [(DeviceState.ONLINE, "")]


async def test_a_reset_forgets_everything_and_logs_devices_out(network: SimulatedNetwork, client: Client) -> None:
    device = await connected(network, client.transport)
    await network.configure(read_rate=0.25)
    await sent(client.transport, device)

    await network.reset()

    await eventually(lambda: client.transport.state(device.id) is DeviceState.LOGGED_OUT)
    assert await recorded(network) == []
    assert (await network.config()).read_rate != 0.25


async def test_a_device_can_be_linked_to_another_account_and_connects_with_its_new_link(
    network: SimulatedNetwork, client: Client
) -> None:
    old = await connected(network, client.transport)
    new = (await network.link(old.id, "60177777777")).ref
    await eventually(lambda: client.transport.state(old.id) is DeviceState.LOGGED_OUT)
    await client.transport.connect(new)
    await sent(client.transport, new)
    assert new == replace(old, jid="60177777777:1@s.whatsapp.net", link_generation=2)


async def test_a_device_that_was_never_linked_cannot_be_controlled(network: SimulatedNetwork) -> None:
    stranger = uuid4()
    for attempt in (
        network.drop(stranger),
        network.ban(stranger),
        network.restore(stranger),
        network.log_out(stranger),
        network.restrict(stranger),
        network.reply(stranger, "60123456789", "Salam"),
        network.device(stranger),
    ):
        with pytest.raises(NotFound):
            await attempt
