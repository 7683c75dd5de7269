"""Transmission over the simulated network, and the settlement of attempts whose end nobody knows."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from activities.transmission import Transmitter, record_of
from siaran.attempt_keys import attempt_key
from siaran.clock import system_clock
from siaran.gateway.interface import Attempt, Body, DeviceRef, MediaFile, NotConnected, Receipt, Rejected, SendResult
from siaran.gateway.simulated import SimulatedTransport
from siaran.gateway.simulated_network import SimulatedNetwork
from siaran.ledger.claims import Claim
from siaran.ledger.settlement import CLAIM_LIMIT
from siaran.media import NewMedia, keep_media, reference_to
from siaran.media_types import MediaKind, MediaType
from siaran.models import AttemptOutcome, Device, Media, MessageStatus
from tests.factories import NOW, after
from tests.ledger.driver import Ledger
from tests.media_files import png

SECRET = b"a secret of tests"
GAP = timedelta(seconds=10)


class Died(BaseException):
    """The process is gone: nothing handles it."""


class ForgetfulTransport(SimulatedTransport):
    """Loses its process, or its session store, at the worst moments."""

    dies_before_sending = False
    dies_after_sending = False
    store_is_away = 0
    last_body: Body

    async def send(self, device_id: UUID, to: str, body: Body, key: bytes) -> SendResult:
        if self.dies_before_sending:
            raise Died
        self.last_body = body
        result = await super().send(device_id, to, body, key)
        if self.dies_after_sending:
            raise Died
        return result

    async def find_attempt(self, device_id: UUID, to: str, key: bytes, link_generation: int) -> Attempt:
        if self.store_is_away:
            self.store_is_away -= 1
            raise NotConnected("the store is away")
        return await super().find_attempt(device_id, to, key, link_generation)


class Sender:
    """One device with a campaign, its transport, and the transmitter of its host."""

    def __init__(self, ledger: Ledger, network: SimulatedNetwork, url: str) -> None:
        self.ledger = ledger
        self.network = network
        self.transport = ForgetfulTransport(url)
        self.transmitter = Transmitter(
            transport=self.transport,
            sessions=ledger.sessions,
            record=ledger.record,
            clock=system_clock,
            secret=SECRET,
            receipt_wait=timedelta(seconds=0.3),
        )

    async def open(self) -> None:
        self.device: Device = await self.ledger.device()
        linked = await self.network.link(self.device.id, self.device.phone)
        await self.ledger.change(self.device, link_generation=linked.ref.link_generation, jid=linked.ref.jid)
        await self.transport.open()
        await self.transport.connect(linked.ref)
        self.campaign = await self.ledger.campaign(message="Hi {{name}}")
        self.events = asyncio.create_task(self._take_in())

    async def _take_in(self) -> None:
        async for event in self.transport.events():
            if isinstance(event, Receipt):
                await self.ledger.receive(event)

    async def close(self) -> None:
        await self.transport.close()
        await self.events

    async def claimed(self) -> Claim:
        """The claim of a new message."""
        await self.ledger.messages(self.campaign, self.device)
        return await self.ledger.claimed(self.device)

    async def crash(self, *, sent: bool) -> Claim:
        """Claim a message and die with it, before or after it was transmitted."""
        claim = await self.claimed()
        self.transport.dies_after_sending, self.transport.dies_before_sending = sent, not sent
        with pytest.raises(Died):
            await self.transmitter.transmit(claim, gap=GAP)
        self.transport.dies_after_sending = self.transport.dies_before_sending = False
        return claim

    async def settle(self) -> MessageStatus:
        """Settle the one open claim of the device as a new host would; says what was recorded."""
        [claim] = await self.ledger.open_claims(self.device)
        record = await self.transmitter.settle(claim, record_of(claim, claim.attempted_at, NOW))
        return record.status

    async def transmitted(self) -> int:
        return await self.network.transmitted()


@pytest.fixture
async def sender(ledger: Ledger, network: SimulatedNetwork, network_url: str) -> AsyncIterator[Sender]:
    """A device that is connected."""
    sender = Sender(ledger, network, network_url)
    await sender.open()
    yield sender
    await sender.close()


async def test_a_transmitted_message_is_recorded_as_the_network_has_it(sender: Sender, ledger: Ledger) -> None:
    claim = await sender.claimed()

    record, error = await sender.transmitter.transmit(claim, gap=GAP)

    assert (record.status, error) == (MessageStatus.SENT, None)
    [seen] = [one async for one in sender.network.transmissions()]
    [attempt] = await ledger.attempts(claim.message_id)
    assert (seen.to, seen.whatsapp_id, seen.device_id) == (claim.phone, attempt.whatsapp_id, sender.device.id)
    assert seen.key == attempt_key(SECRET, claim.message_id, 1).hex()
    assert record.began_at is not None
    assert record.next_send_at == record.began_at + GAP
    await ledger.check()


@pytest.mark.parametrize(("code", "is_retryable"), [("invalid_number", False), ("server_error_500", True)])
async def test_a_refusal_ends_the_message_and_says_whether_a_retry_can_help(
    sender: Sender, ledger: Ledger, code: str, is_retryable: bool
) -> None:
    await sender.network.configure(failure_rate=1, failure_codes={code: 1})
    claim = await sender.claimed()

    _, error = await sender.transmitter.transmit(claim, gap=GAP)

    message = await ledger.message(claim.message_id)
    assert (message.status, message.error_code, message.is_retryable) == (MessageStatus.FAILED, code, is_retryable)
    assert message.error_message
    assert error is None
    assert [attempt.outcome for attempt in await ledger.attempts(claim.message_id)] == [AttemptOutcome.REJECTED]
    await ledger.check()


async def test_a_number_without_an_account_fails_for_good(sender: Sender, ledger: Ledger) -> None:
    await sender.network.configure(not_on_whatsapp_rate=1)
    claim = await sender.claimed()

    await sender.transmitter.transmit(claim, gap=GAP)

    message = await ledger.message(claim.message_id)
    assert (message.status, message.error_code, message.is_retryable) == (MessageStatus.FAILED, "not_on_whatsapp", False)


@pytest.mark.parametrize("trouble", ["rate_limited_429", "restricted_463", "not_connected"])
async def test_what_is_no_fault_of_the_message_leaves_it_pending_and_stops_the_lane(
    sender: Sender, ledger: Ledger, trouble: str
) -> None:
    claim = await sender.claimed()
    if trouble == "rate_limited_429":
        await sender.network.configure(rate_limit_rate=1)
    elif trouble == "restricted_463":
        await sender.network.restrict(sender.device.id)
    else:
        await sender.transport.disconnect(sender.device.id)

    record, error = await sender.transmitter.transmit(claim, gap=GAP)

    assert error is not None
    assert (record.status, record.error_code) == (MessageStatus.PENDING, trouble)
    assert await ledger.status(claim.message_id) == MessageStatus.PENDING
    assert await sender.transmitted() == 0
    await ledger.check()


async def test_a_lost_acknowledgement_with_a_receipt_is_a_delivered_message(sender: Sender, ledger: Ledger) -> None:
    await sender.network.configure(ack_loss_rate=1, delivered_rate=1, delivered_seconds=(0.1, 0.1), read_rate=0)
    claim = await sender.claimed()

    record, _ = await sender.transmitter.transmit(claim, gap=GAP)

    assert record.status is MessageStatus.SENT
    assert await ledger.status(claim.message_id) == MessageStatus.DELIVERED
    assert await sender.transmitted() == 1
    await ledger.check()


async def test_a_lost_acknowledgement_without_a_receipt_is_unknown_until_one_comes(sender: Sender, ledger: Ledger) -> None:
    await sender.network.configure(ack_loss_rate=1, delivered_rate=1, delivered_seconds=(1, 1), read_rate=0)
    claim = await sender.claimed()

    record, _ = await sender.transmitter.transmit(claim, gap=GAP)

    assert record.status is MessageStatus.UNKNOWN
    message = await ledger.message(claim.message_id)
    assert (message.status, message.error_code) == (MessageStatus.UNKNOWN, "outcome_unknown")
    await asyncio.sleep(1.2)
    assert await ledger.status(claim.message_id) == MessageStatus.DELIVERED
    assert await sender.transmitted() == 1
    await ledger.check()


async def test_a_claim_that_was_never_transmitted_is_pending_again(sender: Sender, ledger: Ledger) -> None:
    claim = await sender.crash(sent=False)

    assert await sender.settle() is MessageStatus.PENDING

    assert await sender.transmitted() == 0
    assert [attempt.outcome for attempt in await ledger.attempts(claim.message_id)] == [AttemptOutcome.NOT_ATTEMPTED]
    assert (await ledger.claimed(sender.device)).attempt == 2
    await ledger.check()


async def test_a_claim_that_was_transmitted_and_delivered_is_never_transmitted_again(sender: Sender, ledger: Ledger) -> None:
    await sender.network.configure(delivered_rate=1, delivered_seconds=(0, 0), read_rate=0)
    claim = await sender.crash(sent=True)
    await asyncio.sleep(0.2)
    assert await ledger.status(claim.message_id) == MessageStatus.CLAIMED

    assert await sender.settle() is MessageStatus.SENT

    assert await ledger.status(claim.message_id) == MessageStatus.DELIVERED
    assert await ledger.claim(sender.device) is None
    assert await sender.transmitted() == 1
    await ledger.check()


async def test_a_claim_that_was_transmitted_without_any_word_of_it_is_unknown(sender: Sender, ledger: Ledger) -> None:
    claim = await sender.crash(sent=True)

    assert await sender.settle() is MessageStatus.UNKNOWN

    [attempt] = await ledger.attempts(claim.message_id)
    assert attempt.whatsapp_id is not None
    assert attempt.outcome is AttemptOutcome.UNKNOWN
    assert await ledger.claim(sender.device) is None
    assert await sender.transmitted() == 1
    await ledger.check()


async def test_a_store_of_a_newer_link_cannot_tell_and_nothing_is_guessed(sender: Sender, ledger: Ledger) -> None:
    claim = await sender.crash(sent=True)
    linked = await sender.network.link(sender.device.id, sender.device.phone)
    await sender.transport.connect(DeviceRef(sender.device.id, linked.ref.jid, linked.ref.link_generation))

    assert await sender.settle() is MessageStatus.UNKNOWN

    assert await ledger.status(claim.message_id) == MessageStatus.UNKNOWN
    assert await sender.transmitted() == 1


async def test_settling_waits_for_a_store_that_is_away(sender: Sender, ledger: Ledger) -> None:
    claim = await sender.crash(sent=True)
    sender.transport.store_is_away = 2

    assert await sender.settle() is MessageStatus.UNKNOWN

    assert sender.transport.store_is_away == 0
    assert await ledger.status(claim.message_id) == MessageStatus.UNKNOWN


async def test_a_claim_that_was_swept_while_it_was_settled_is_not_taken_for_sent(sender: Sender, ledger: Ledger) -> None:
    """Only a receipt makes it `sent`; that it is not `claimed` any more says nothing."""
    claim = await sender.crash(sent=True)
    [open_claim] = await ledger.open_claims(sender.device)
    await ledger.end_lease(ledger.host)
    assert await ledger.sweep(after(CLAIM_LIMIT.total_seconds() + 1)) == 1

    record = await sender.transmitter.settle(open_claim, record_of(open_claim, NOW, NOW))

    assert record.status is MessageStatus.UNKNOWN
    assert await ledger.status(claim.message_id) == MessageStatus.UNKNOWN
    await ledger.check()


async def test_a_claim_that_was_retried_while_it_was_settled_stays_pending(sender: Sender, ledger: Ledger) -> None:
    claim = await sender.crash(sent=True)
    [open_claim] = await ledger.open_claims(sender.device)
    await ledger.end_lease(ledger.host)
    await ledger.sweep(after(CLAIM_LIMIT.total_seconds() + 1))
    await ledger.retry(sender.campaign, after(3600), message_id=claim.message_id)

    record = await sender.transmitter.settle(open_claim, record_of(open_claim, NOW, NOW))

    assert record.status is MessageStatus.UNKNOWN
    assert await ledger.status(claim.message_id) == MessageStatus.PENDING
    await ledger.check()


async def test_the_transport_can_read_the_file_that_a_message_carries(sender: Sender, ledger: Ledger) -> None:
    new = NewMedia(png(), MediaType(MediaKind.IMAGE, "image/png", ".png"), "promo.png")
    async with ledger.sessions.begin() as session:
        media = await keep_media(session, ledger.user.id, new, NOW)
    await ledger.change(sender.campaign, message_type="image", image_url=reference_to(media.id))
    claim = await sender.claimed()
    await sender.transmitter.transmit(claim, gap=GAP)
    body = sender.transport.last_body
    assert body.media_url == reference_to(media.id)
    assert body.read_media is not None
    assert await body.read_media() == MediaFile("image/png", "promo.png", png())
    async with ledger.sessions.begin() as session:
        await session.delete(await session.get_one(Media, media.id))
    with pytest.raises(Rejected, match="media_missing"):
        await body.read_media()


async def test_a_text_of_which_nothing_is_left_fails_and_is_not_transmitted(sender: Sender, ledger: Ledger) -> None:
    await ledger.change(sender.campaign, message="{{niche}}")
    claim = await sender.claimed()
    record, error = await sender.transmitter.transmit(claim, gap=GAP)
    assert (record.status, record.error_code, error) == (MessageStatus.FAILED, "empty_text", None)
    assert await sender.transmitted() == 0


@pytest.mark.parametrize("message_type", ["location", "contact", "poll"])
async def test_what_no_transport_can_read_fails_and_is_not_transmitted(
    sender: Sender, ledger: Ledger, message_type: str
) -> None:
    claim = replace(await sender.claimed(), message_type=message_type, content="{}")
    record, error = await sender.transmitter.transmit(claim, gap=GAP)
    assert (record.status, record.error_code, error) == (MessageStatus.FAILED, "unsupported_content", None)
    assert await sender.transmitted() == 0
