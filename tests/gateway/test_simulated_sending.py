"""Sending through the simulated network: what is recorded, refused, lost and found again."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from siaran.gateway.interface import (
    AttemptAnswer,
    Body,
    DeviceRef,
    LoggedOut,
    MessageType,
    NotConnected,
    NotOnWhatsApp,
    OutcomeUnknown,
    RateLimited,
    Receipt,
    ReceiptKind,
    Rejected,
    Restricted,
)
from siaran.gateway.simulated_network import SimulatedNetwork
from siaran.gateway.simulated_record import body_digest
from tests.gateway.conftest import Client
from tests.gateway.messages import PHONE, TEXT, connected, linked, new_key, recorded, sent, until
from tests.waiting import eventually


async def test_an_acknowledged_message_is_in_the_record(network: SimulatedNetwork, client: Client) -> None:
    device, key = await connected(network, client.transport), new_key()
    body = Body(MessageType.IMAGE, "Promosi Merdeka", "media/1.jpg")

    result = await client.transport.send(device.id, PHONE, body, key)

    [transmission] = await recorded(network)
    assert result.whatsapp_id.startswith("3EB0")
    assert len(result.whatsapp_id) == 22
    assert datetime.now(UTC) - result.sent_at < timedelta(seconds=5)
    assert (transmission.device_id, transmission.to, transmission.whatsapp_id) == (device.id, PHONE, result.whatsapp_id)
    assert (transmission.type, transmission.key) == (MessageType.IMAGE, key.hex())
    assert transmission.body_sha256 == body_digest(body) != body_digest(TEXT)
    assert transmission.at == result.sent_at


async def test_a_message_sent_twice_is_recorded_twice(network: SimulatedNetwork, client: Client) -> None:
    device, key = await connected(network, client.transport), new_key()
    results = [await sent(client.transport, device, key=key) for _ in range(2)]

    counts = await network.counts()

    assert len({result.whatsapp_id for result in results}) == 2
    assert (counts.transmissions, counts.keys, counts.messages, counts.recipients, counts.repeated) == (2, 1, 1, 1, 1)
    assert counts.by_device == {device.id: 2}


async def test_the_record_can_be_read_from_a_place_in_it(network: SimulatedNetwork, client: Client) -> None:
    device = await connected(network, client.transport)
    for number in range(3):
        await sent(client.transport, device, f"6012000000{number}")
    first, second, third = await recorded(network)

    assert [one async for one in network.transmissions(first.id)] == [second, third]
    assert [one async for one in network.transmissions(third.id)] == []


async def test_sending_takes_the_configured_latency(network: SimulatedNetwork, client: Client) -> None:
    await network.configure(latency_ms=(100, 150))
    device = await connected(network, client.transport)
    begun = asyncio.get_running_loop().time()

    await sent(client.transport, device)

    assert 0.1 <= asyncio.get_running_loop().time() - begun < 0.6


async def test_a_device_that_is_not_connected_cannot_send(network: SimulatedNetwork, client: Client) -> None:
    device = await linked(network)
    with pytest.raises(NotConnected):
        await sent(client.transport, device)
    assert await recorded(network) == []


async def test_a_refused_message_is_not_delivered_and_a_retry_may_pass(network: SimulatedNetwork, client: Client) -> None:
    await network.configure(failure_rate=0.5, failure_codes={"server_error_500": 1, "recipient_blocked": 1})
    device = await connected(network, client.transport)
    refusals: list[Rejected] = []
    for number in range(40):
        try:
            await sent(client.transport, device, f"601200000{number:02d}")
        except Rejected as error:
            refusals.append(error)

    rejections = [one async for one in network.rejections()]
    assert 8 <= len(refusals) <= 32
    assert [one.code for one in rejections] == [error.code for error in refusals]
    assert {(error.code, error.retryable) for error in refusals} == {("server_error_500", True), ("recipient_blocked", False)}
    assert len(await recorded(network)) == 40 - len(refusals)

    await network.configure(failure_rate=0)
    await sent(client.transport, device, rejections[0].to)
    assert rejections[0].to in {one.to for one in await recorded(network)}


async def test_a_phone_without_account_never_gets_one(network: SimulatedNetwork, client: Client) -> None:
    await network.configure(not_on_whatsapp_rate=0.5)
    device = await connected(network, client.transport)
    phones = [f"601300000{number:02d}" for number in range(20)]
    answers = await client.transport.is_on_whatsapp(device.id, phones)
    assert 2 <= sum(answers.values()) <= 18

    for phone in phones * 2:
        if answers[phone]:
            await sent(client.transport, device, phone)
        else:
            with pytest.raises(NotOnWhatsApp):
                await sent(client.transport, device, phone)
    assert (await network.counts()).rejections == {"not_on_whatsapp": 2 * list(answers.values()).count(False)}


async def test_a_rate_limit_says_how_long_to_wait(network: SimulatedNetwork, client: Client) -> None:
    await network.configure(rate_limit_rate=1, rate_limit_seconds=7)
    device = await connected(network, client.transport)
    with pytest.raises(RateLimited) as caught:
        await sent(client.transport, device)
    assert (caught.value.code, caught.value.retryable, caught.value.retry_after_seconds) == ("rate_limited_429", True, 7)


async def test_a_restricted_device_reaches_established_chats_only(network: SimulatedNetwork, client: Client) -> None:
    device = await connected(network, client.transport)
    await sent(client.transport, device, "60121111111")
    await network.reply(device.id, "60122222222", "Berapa harga?")
    await network.restrict(device.id)

    with pytest.raises(Restricted):
        await sent(client.transport, device, "60123333333")
    await sent(client.transport, device, "60121111111")
    await sent(client.transport, device, "60122222222")
    await network.restrict(device.id, on=False)
    await sent(client.transport, device, "60123333333")

    assert [one.to[4] for one in await recorded(network)] == ["1", "1", "2", "3"]


async def test_a_lost_ack_leaves_the_outcome_unknown_and_a_late_one_tells(network: SimulatedNetwork, client: Client) -> None:
    await network.configure(ack_loss_rate=1, ack_timeout_seconds=0.2, late_ack=True, delivered_rate=0)
    device, key = await connected(network, client.transport), new_key()
    with pytest.raises(OutcomeUnknown):
        await sent(client.transport, device, key=key)

    attempt = await client.transport.find_attempt(device.id, PHONE, key, device.link_generation)
    assert [one.whatsapp_id for one in await recorded(network)] == [attempt.whatsapp_id]
    await eventually(lambda: bool(client.of(Receipt)))
    [receipt] = client.of(Receipt)
    assert (receipt.kind, receipt.whatsapp_id) == (ReceiptKind.SENT, attempt.whatsapp_id)


async def test_a_drop_before_the_ack_leaves_the_outcome_unknown(network: SimulatedNetwork, client: Client) -> None:
    await network.configure(ack_loss_rate=1, ack_timeout_seconds=60)
    device = await connected(network, client.transport)
    sending = asyncio.create_task(sent(client.transport, device))
    await until(network.transmitted)

    await network.drop(device.id)

    with pytest.raises(OutcomeUnknown):
        await asyncio.wait_for(sending, 5)


async def test_a_drop_before_the_transmission_transmits_nothing(network: SimulatedNetwork, client: Client) -> None:
    await network.configure(latency_ms=(1000, 1000))
    device, key = await connected(network, client.transport), new_key()
    sending = asyncio.create_task(sent(client.transport, device, key=key))
    await until(lambda: _is_attempted(client, device, key))

    await network.drop(device.id)

    with pytest.raises(NotConnected):
        await sending
    assert await recorded(network) == []


async def test_a_cancelled_send_leaves_what_was_done(network: SimulatedNetwork, client: Client) -> None:
    await network.configure(latency_ms=(600, 600))
    device, key = await connected(network, client.transport), new_key()
    sending = asyncio.create_task(sent(client.transport, device, key=key))
    await until(network.transmitted)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)

    attempt = await client.transport.find_attempt(device.id, PHONE, key, device.link_generation)
    await eventually(lambda: bool(client.of(Receipt)))
    assert client.of(Receipt)[0].whatsapp_id == attempt.whatsapp_id


async def test_the_session_store_knows_which_attempts_were_made(network: SimulatedNetwork, client: Client) -> None:
    device, key = await connected(network, client.transport), new_key()
    result = await sent(client.transport, device, key=key)

    attempt = await client.transport.find_attempt(device.id, PHONE, key, device.link_generation)
    assert (attempt.answer, attempt.whatsapp_id) == (AttemptAnswer.ATTEMPTED, result.whatsapp_id)
    assert await _answer(client, device, new_key()) is AttemptAnswer.NOT_ATTEMPTED


async def test_a_log_out_loses_the_store_and_a_new_link_does_not_bring_it_back(
    network: SimulatedNetwork, client: Client
) -> None:
    device, key = await connected(network, client.transport), new_key()
    await sent(client.transport, device, key=key)

    await client.transport.log_out(device.id)

    assert await _answer(client, device, key) is AttemptAnswer.CANNOT_TELL
    again = (await network.link(device.id, "60198765432")).ref
    assert again.link_generation == device.link_generation + 1
    assert await _answer(client, device, key) is AttemptAnswer.CANNOT_TELL
    assert await _answer(client, again, key) is AttemptAnswer.NOT_ATTEMPTED
    with pytest.raises(LoggedOut):
        await client.transport.connect(device)


async def test_a_network_told_to_forget_denies_every_attempt(network: SimulatedNetwork, client: Client) -> None:
    device, key = await connected(network, client.transport), new_key()
    await sent(client.transport, device, key=key)
    await network.configure(forget_attempts=True)
    assert await _answer(client, device, key) is AttemptAnswer.NOT_ATTEMPTED


async def _is_attempted(client: Client, device: DeviceRef, key: bytes) -> bool:
    return await _answer(client, device, key) is AttemptAnswer.ATTEMPTED


async def _answer(client: Client, device: DeviceRef, key: bytes) -> AttemptAnswer:
    return (await client.transport.find_attempt(device.id, PHONE, key, device.link_generation)).answer
