"""Receipts and incoming messages of the simulated network: on time, early, after a gap, to one connection only."""

import asyncio
from datetime import UTC, datetime, timedelta

from siaran.gateway.interface import DeviceState, Incoming, Receipt, ReceiptKind
from siaran.gateway.simulated_network import SimulatedNetwork
from tests.gateway.conftest import Client, NewClient
from tests.gateway.messages import PHONE, connected, linked, sent
from tests.waiting import eventually


async def test_a_message_is_delivered_and_then_read(network: SimulatedNetwork, client: Client) -> None:
    await network.configure(delivered_seconds=(0.1, 0.2), read_rate=1, read_seconds=(0.1, 0.2))
    device = await connected(network, client.transport)

    result = await sent(client.transport, device)

    assert client.of(Receipt) == []
    await eventually(lambda: len(client.of(Receipt)) == 2)
    delivered, read = client.of(Receipt)
    assert (delivered.kind, read.kind) == (ReceiptKind.DELIVERED, ReceiptKind.READ)
    assert {delivered.whatsapp_id, read.whatsapp_id} == {result.whatsapp_id}
    assert timedelta(seconds=0.1) <= delivered.at - result.sent_at <= timedelta(seconds=0.2)
    assert delivered.at < read.at <= datetime.now(UTC)


async def test_a_receipt_may_overtake_the_acknowledgement(network: SimulatedNetwork, client: Client) -> None:
    await network.configure(early_receipt_rate=1, delivered_seconds=(30, 30), latency_ms=(100, 100))
    device = await connected(network, client.transport)

    result = await sent(client.transport, device)

    assert [receipt.whatsapp_id for receipt in client.of(Receipt)] == [result.whatsapp_id]


async def test_a_message_to_a_phone_that_is_off_brings_no_receipt(network: SimulatedNetwork, client: Client) -> None:
    await network.configure(delivered_rate=0, read_rate=1, read_seconds=(0, 0))
    device = await connected(network, client.transport)
    await sent(client.transport, device)
    await asyncio.sleep(0.3)
    assert client.of(Receipt) == []


async def test_what_arrives_while_nobody_is_connected_waits_for_the_next_connection(
    network: SimulatedNetwork, new_client: NewClient
) -> None:
    await network.configure(delivered_seconds=(0.2, 0.2))
    first, second = await new_client(), await new_client()
    device = await connected(network, first.transport)
    result = await sent(first.transport, device)
    await first.transport.disconnect(device.id)
    message_id = await network.reply(device.id, PHONE, "Boleh hantar lokasi?\nTerima kasih ✓")
    await asyncio.sleep(0.4)
    assert first.of(Receipt) == []

    await second.transport.connect(device)

    await eventually(lambda: len(second.events) == 3)
    assert [receipt.whatsapp_id for receipt in second.of(Receipt)] == [result.whatsapp_id]
    [incoming] = second.of(Incoming)
    assert (incoming.sender, incoming.text) == (PHONE, "Boleh hantar lokasi?\nTerima kasih ✓")
    assert incoming.whatsapp_id == message_id
    assert first.of(Receipt) == []


async def test_a_receipt_is_received_once_though_two_connections_wait_for_it(
    network: SimulatedNetwork, new_client: NewClient
) -> None:
    await network.configure(replace_connections=False, delivered_seconds=(0.3, 0.3))
    first, second = await new_client(), await new_client()
    device = await connected(network, first.transport)
    results = [await sent(first.transport, device, f"6012000000{number}") for number in range(5)]
    await second.transport.connect(device)

    await eventually(lambda: len(first.of(Receipt)) + len(second.of(Receipt)) >= 5)
    await asyncio.sleep(0.3)
    received = [receipt.whatsapp_id for client in (first, second) for receipt in client.of(Receipt)]
    assert sorted(received) == sorted(result.whatsapp_id for result in results)


async def test_a_reply_reaches_the_connected_device_at_once(network: SimulatedNetwork, client: Client) -> None:
    device, other = await connected(network, client.transport), await connected(network, client.transport)
    await network.reply(device.id, PHONE, "STOP")
    await eventually(lambda: bool(client.of(Incoming)))
    [incoming] = client.of(Incoming)
    assert (incoming.device_id, incoming.text) == (device.id, "STOP")
    assert incoming.device_id != other.id


async def test_contacts_answer_by_themselves_and_some_opt_out(network: SimulatedNetwork, client: Client) -> None:
    await network.configure(reply_rate=1, opt_out_rate=0.5, reply_seconds=(0, 0.1))
    device = await connected(network, client.transport)
    phones = [f"601200000{number:02d}" for number in range(20)]
    for phone in phones:
        await sent(client.transport, device, phone)

    await eventually(lambda: len(client.of(Incoming)) == 20)
    answers = client.of(Incoming)
    assert sorted(answer.sender for answer in answers) == phones
    assert 2 <= sum(answer.text == "STOP" for answer in answers) <= 18


async def test_a_log_out_ends_what_was_still_to_come(network: SimulatedNetwork, client: Client) -> None:
    device = await linked(network)
    await network.reply(device.id, PHONE, "Salam")
    await network.log_out(device.id)
    again = (await network.link(device.id, "60198765432")).ref
    await client.transport.connect(again)
    await asyncio.sleep(0.2)
    assert client.of(Incoming) == []


async def test_what_nobody_has_handled_is_reported_to_the_next_connection(
    network: SimulatedNetwork, new_client: NewClient
) -> None:
    """As after a kill between the report and its record: nothing says goodbye to the network."""
    first, second, third = await new_client(), await new_client(), await new_client()
    device = await connected(network, first.transport)
    results = [await sent(first.transport, device, f"6012000000{number}") for number in range(2)]
    await network.reply(device.id, PHONE, "STOP")
    await eventually(lambda: len(first.of(Receipt)) == 2 and len(first.of(Incoming)) == 1)

    await second.transport.connect(device)

    await eventually(lambda: len(second.of(Receipt)) == 2 and len(second.of(Incoming)) == 1)
    assert {receipt.whatsapp_id for receipt in second.of(Receipt)} == {result.whatsapp_id for result in results}
    assert first.of(Incoming) == second.of(Incoming)
    handled, left = second.of(Receipt)
    second.transport.handled(handled)
    second.transport.handled(second.of(Incoming)[0])
    await second.transport.close()
    await third.transport.connect(device)
    await eventually(lambda: third.of(Receipt) == [left])
    await asyncio.sleep(0.2)
    assert third.of(Receipt) == [left]
    assert third.of(Incoming) == []


async def test_what_nobody_has_handled_before_an_interruption_is_reported_again_after_it(
    network: SimulatedNetwork, client: Client
) -> None:
    device = await connected(network, client.transport)
    await sent(client.transport, device)
    await eventually(lambda: len(client.of(Receipt)) == 1)

    await network.drop(device.id)
    await network.restore(device.id)

    await eventually(lambda: len(client.of(Receipt)) == 2)
    first, second = client.of(Receipt)
    assert first == second
    client.transport.handled(second)
    await asyncio.sleep(0.2)
    await network.drop(device.id)
    await network.restore(device.id)
    await eventually(lambda: client.transport.state(device.id) is DeviceState.ONLINE)
    await asyncio.sleep(0.2)
    assert len(client.of(Receipt)) == 2
