"""Killed processes and a killed Valkey: what the simulated network, and the devices' session stores, remember."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from siaran.errors import Unavailable
from siaran.gateway.interface import AttemptAnswer, DeviceRef, DeviceState, NotConnected, OutcomeUnknown, Receipt, StateChanged
from siaran.gateway.simulated_network import SimulatedNetwork
from tests.gateway.conftest import Client, NetworkServer, client_factory
from tests.gateway.messages import PHONE, connected, linked, new_key, recorded, sent, until
from tests.waiting import eventually

SLOW = (4000.0, 4000.0)


@pytest.fixture
async def killable(server: NetworkServer) -> AsyncIterator[SimulatedNetwork]:
    """A network without delays, on the Valkey that the test may kill."""
    async with SimulatedNetwork(server.url) as network:
        await network.configure(latency_ms=(0, 0), delivered_seconds=(0, 0), read_rate=0)
        yield network


def sending_process(url: str, device: DeviceRef, key: bytes) -> subprocess.Popen[bytes]:
    words = [url, str(device.id), device.jid, str(device.link_generation), PHONE, key.hex()]
    return subprocess.Popen([sys.executable, "-m", "tests.gateway.sender", *words])


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


async def test_a_process_killed_before_it_transmits_leaves_an_attempt_and_no_message(
    network: SimulatedNetwork, network_url: str, client: Client
) -> None:
    await network.configure(latency_ms=SLOW)
    device, key = await linked(network), new_key()
    process = sending_process(network_url, device, key)

    async def attempted() -> bool:
        attempt = await client.transport.find_attempt(device.id, PHONE, key, device.link_generation)
        return attempt.answer is AttemptAnswer.ATTEMPTED

    try:
        await until(attempted)
    finally:
        kill(process)

    assert await recorded(network) == []
    await client.transport.connect(device)
    await asyncio.sleep(0.3)
    assert client.of(Receipt) == []


async def test_a_process_killed_before_the_ack_leaves_a_message_whose_receipt_the_next_one_gets(
    network: SimulatedNetwork, network_url: str, client: Client
) -> None:
    await network.configure(latency_ms=SLOW, delivered_seconds=(1, 1))
    device, key = await linked(network), new_key()
    process = sending_process(network_url, device, key)
    try:
        await until(network.transmitted)
    finally:
        kill(process)

    attempt = await client.transport.find_attempt(device.id, PHONE, key, device.link_generation)
    [transmission] = await recorded(network)
    assert attempt.whatsapp_id == transmission.whatsapp_id
    await client.transport.connect(device)
    await eventually(lambda: [receipt.whatsapp_id for receipt in client.of(Receipt)] == [attempt.whatsapp_id])


async def test_the_record_and_the_stores_survive_a_killed_valkey(server: NetworkServer, killable: SimulatedNetwork) -> None:
    async with client_factory(server.url) as new_client:
        client = await new_client()
        device, key = await connected(killable, client.transport), new_key()
        result = await sent(client.transport, device, key=key)
        await killable.configure(seed=42)
        before = await recorded(killable)

        await server.kill()
        with pytest.raises(Unavailable):
            await killable.counts()
        await server.start()

        assert await recorded(killable) == before
        assert (await killable.config()).seed == 42
        attempt = await client.transport.find_attempt(device.id, PHONE, key, device.link_generation)
        assert attempt.whatsapp_id == result.whatsapp_id


async def test_a_device_is_offline_while_the_valkey_is_gone_and_comes_back_by_itself(
    server: NetworkServer, killable: SimulatedNetwork
) -> None:
    await killable.configure(delivered_seconds=(0.5, 0.5))
    async with client_factory(server.url) as new_client:
        client = await new_client()
        device, other = await connected(killable, client.transport), await linked(killable)
        result = await sent(client.transport, device)

        await server.kill()
        await eventually(lambda: client.transport.state(device.id) is DeviceState.OFFLINE)
        with pytest.raises(NotConnected):
            await sent(client.transport, device)
        with pytest.raises(NotConnected):
            await client.transport.connect(other)
        with pytest.raises(NotConnected):
            await client.transport.find_attempt(device.id, PHONE, new_key(), 1)
        await client.transport.disconnect(other.id)
        await server.start()

        await eventually(lambda: client.transport.state(device.id) is DeviceState.ONLINE)
        changes = [(event.state, event.detail) for event in client.of(StateChanged)]
        assert changes == [(DeviceState.ONLINE, ""), (DeviceState.OFFLINE, "network_lost"), (DeviceState.ONLINE, "")]
        await eventually(lambda: [receipt.whatsapp_id for receipt in client.of(Receipt)] == [result.whatsapp_id])
        await sent(client.transport, device)
        assert await killable.transmitted() == 2


async def test_what_happened_while_the_valkey_was_out_of_reach_is_learned_afterwards(
    server: NetworkServer, killable: SimulatedNetwork
) -> None:
    async with client_factory(server.url) as new_client:
        client = await new_client()
        banned, linked_anew = [await connected(killable, client.transport) for _ in range(2)]
        await server.kill()
        await eventually(lambda: client.transport.state(banned.id) is DeviceState.OFFLINE)
        await server.start()
        await killable.ban(banned.id)
        await killable.link(linked_anew.id, "60177777777")
        await eventually(lambda: client.transport.state(banned.id) is DeviceState.BANNED)
        await eventually(lambda: client.transport.state(linked_anew.id) is DeviceState.LOGGED_OUT)


async def test_a_valkey_lost_before_the_transmission_transmits_nothing(
    server: NetworkServer, killable: SimulatedNetwork
) -> None:
    await killable.configure(latency_ms=(1000, 1000))
    async with client_factory(server.url) as new_client:
        client = await new_client()
        device = await connected(killable, client.transport)
        sending = asyncio.create_task(sent(client.transport, device))
        await asyncio.sleep(0.2)
        await server.kill()
        with pytest.raises(NotConnected):
            await sending
        await server.start()
        assert await recorded(killable) == []


async def test_a_valkey_lost_after_the_transmission_leaves_the_outcome_unknown(
    server: NetworkServer, killable: SimulatedNetwork
) -> None:
    await killable.configure(latency_ms=(1000, 1000))
    async with client_factory(server.url) as new_client:
        client = await new_client()
        device, key = await connected(killable, client.transport), new_key()
        sending = asyncio.create_task(sent(client.transport, device, key=key))
        await until(killable.transmitted)
        await server.kill()
        with pytest.raises(OutcomeUnknown):
            await sending
        await server.start()

        [transmission] = await recorded(killable)
        await eventually(lambda: [receipt.whatsapp_id for receipt in client.of(Receipt)] == [transmission.whatsapp_id])


async def test_a_transport_opened_before_its_network_connects_once_it_answers(server: NetworkServer) -> None:
    await server.kill()
    async with client_factory(server.url) as new_client:
        client = await new_client()
        await server.start()
        async with SimulatedNetwork(server.url) as network:
            device = await linked(network)

            async def connects() -> bool:
                try:
                    await client.transport.connect(device)
                except NotConnected:
                    return False
                return True

            await until(connects)
