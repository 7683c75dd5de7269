"""The send activity of a real host on the simulated network, called as Temporal would call it."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from temporalio.client import Client
from temporalio.exceptions import ApplicationError

from activities import sending
from siaran.attempt_keys import attempt_key
from siaran.clock import system_clock
from siaran.contracts import SendInput, SendResult, SliceEnd
from siaran.gateway.interface import Body, DeviceRef, DeviceState, MessageType, Receipt, ReceiptKind, Restricted
from siaran.gateway.interface import SendResult as Acknowledgement
from siaran.gateway.simulated import SimulatedTransport
from siaran.gateway.simulated_network import SimulatedNetwork
from siaran.models import AttemptOutcome, Campaign, Device
from siaran.settings import Settings
from tests.factories import add_one_off, suppress
from tests.ledger.driver import Ledger, record_of
from tests.waiting import eventually
from worker.connections import Connections
from worker.host import Host

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


class SlowTransport(SimulatedTransport):
    """Holds every send until the test lets it go."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = asyncio.Event()
        self.restricts = False

    async def send(self, device_id: Any, to: str, body: Body, key: bytes) -> Acknowledgement:
        self.waiting.set()
        await self.gate.wait()
        if self.restricts:
            raise Restricted
        return await super().send(device_id, to, body, key)


class Sender:
    """A host with one connected device, and the send activity of that device."""

    def __init__(self, ledger: Ledger, network: SimulatedNetwork, host: Host, transport: SlowTransport) -> None:
        self.ledger = ledger
        self.network = network
        self.host = host
        self.transport = transport
        self.activities = host._sends

    async def add_device(self, **columns: Any) -> Device:
        """A device of the host, linked and connected."""
        device = await self.ledger.device(**columns)
        ref = (await self.network.link(device.id, device.phone)).ref
        device.jid, device.link_generation = ref.jid, ref.link_generation
        await self.ledger.change(device)
        await self.transport.connect(ref)
        return device

    async def add_messages(self, device: Device, count: int = 1, **campaign: Any) -> tuple[Campaign, list[int]]:
        """Messages of a new campaign that are due."""
        row = await self.ledger.campaign(**campaign)
        return row, await self.ledger.messages(row, device, count, scheduled_at=LONG_AGO)

    async def send(self, device: Device) -> SendResult:
        """One send activity."""
        return await self.activities.send(SendInput(device.id, device.user_id))

    def use_slices(self, seconds: int = 60) -> None:
        """Let an activity send for that long."""
        self.activities._settings = self.activities._settings.model_copy(update={"send_window": seconds})

    async def statuses(self, ids: list[int]) -> list[str]:
        return [str((await self.ledger.message(message_id)).status) for message_id in ids]

    async def reach(self, ids: list[int], statuses: list[str]) -> None:
        """Return at the moment at which the messages stand like that."""
        async with asyncio.timeout(10):
            while await self.statuses(ids) != statuses:  # noqa: ASYNC110 -- it happens in another task
                await asyncio.sleep(0.001)


@pytest.fixture
async def sender(
    ledger: Ledger,
    network: SimulatedNetwork,
    network_url: str,
    settings: Settings,
    redis: Redis,
    temporal_client: Client,
) -> AsyncIterator[Sender]:
    """A host that has a lease, and whose transport is open."""
    transport = SlowTransport(network_url)
    host = Host(
        ledger.host.id,
        settings=settings.model_copy(update={"receipt_wait_seconds": 0.2}),
        sessions=ledger.sessions,
        redis=redis,
        client=temporal_client,
        transport=transport,
        clock=system_clock,
    )
    await transport.open()
    yield Sender(ledger, network, host, transport)
    transport.gate.set()
    await host._drain()
    await transport.close()


async def test_with_few_lanes_awake_an_activity_sends_one_message_and_says_when_the_next_may_go(sender: Sender) -> None:
    device = await sender.add_device()
    campaign, ids = await sender.add_messages(device, 2, min_delay_seconds=20, max_delay_seconds=30)

    result = await sender.send(device)

    assert (result.sent, result.ended, result.campaign_id) == (1, SliceEnd.WINDOW, campaign.id)
    assert result.next_at is not None
    assert timedelta(seconds=18) < result.next_at - system_clock() < timedelta(seconds=30)
    assert await sender.statuses(ids) == ["sent", "pending"]
    again = await sender.send(device)
    assert (again.sent, again.ended) == (0, SliceEnd.WINDOW)
    assert await sender.network.transmitted() == 1
    await sender.ledger.check()


async def test_with_many_lanes_awake_an_activity_sends_a_slice_from_the_first_on(sender: Sender) -> None:
    sender.activities.lanes_running = 10_000
    device = await sender.add_device()
    _, ids = await sender.add_messages(device, 5)

    result = await sender.send(device)

    assert (result.sent, result.ended) == (5, SliceEnd.DRAINED)
    assert await sender.statuses(ids) == ["sent"] * 5


async def test_a_slice_sends_all_that_is_due(sender: Sender) -> None:
    sender.use_slices()
    device = await sender.add_device()
    _, ids = await sender.add_messages(device, 5)

    result = await sender.send(device)

    assert (result.sent, result.ended) == (5, SliceEnd.DRAINED)
    assert await sender.statuses(ids) == ["sent"] * 5
    assert await sender.network.transmitted() == 5
    await sender.ledger.check()


async def test_a_slice_waits_out_the_gap_between_its_messages(sender: Sender) -> None:
    sender.use_slices()
    device = await sender.add_device()
    _, ids = await sender.add_messages(device, 3, min_delay_seconds=1, max_delay_seconds=1)

    began = time.monotonic()
    await sender.send(device)

    assert time.monotonic() - began > 1.9
    attempted = [(await sender.ledger.attempts(message_id))[0].attempted_at for message_id in ids]
    gaps = [later - earlier for earlier, later in pairwise(attempted)]
    assert all(timedelta(seconds=0.99) < gap < timedelta(seconds=1.6) for gap in gaps), gaps


async def test_a_slice_shorter_than_the_gap_is_not_asked_for_again_before_it_can_reach_its_message(sender: Sender) -> None:
    sender.use_slices(5)
    device = await sender.add_device()
    await sender.add_messages(device, 2, min_delay_seconds=20, max_delay_seconds=20)
    assert (await sender.send(device)).sent == 1

    again = await sender.send(device)

    assert (again.sent, again.ended) == (0, SliceEnd.WINDOW)
    assert again.next_at is not None
    assert again.next_at > system_clock() + timedelta(seconds=10), "Temporal would be asked for the same slice over and over"


async def test_a_slice_ends_also_where_nobody_may_have_its_messages(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "SLICE", timedelta(seconds=0.3))
    device = await sender.add_device()
    _, ids = await sender.add_messages(device, 30)
    async with sender.ledger.sessions.begin() as session:
        for message_id in ids:
            await suppress(session, device.user_id, (await sender.ledger.message(message_id)).recipient_phone)

    result = await sender.send(device)

    assert result.ended is SliceEnd.WINDOW
    assert 0 < result.suppressed < 30


async def test_a_new_host_waits_out_the_gap_after_the_last_message(sender: Sender) -> None:
    device = await sender.add_device()
    await sender.add_messages(device)
    next_at = system_clock() + timedelta(seconds=40)
    await sender.ledger.change(await sender.ledger.lane(device), next_send_at=next_at)

    result = await sender.send(device)

    assert (result.sent, result.ended) == (0, SliceEnd.WINDOW)
    assert result.next_at is not None
    assert abs(result.next_at - next_at) < timedelta(seconds=1)


async def transmit_and_die(sender: Sender, device: Device) -> None:
    """What a host leaves behind that is killed between a transmission and its record."""
    claim = await sender.ledger.claimed(device, at=system_clock())
    key = attempt_key(sender.host._sends._transmitter.secret, claim.message_id, claim.attempt)
    await sender.transport.send(device.id, claim.phone, Body(MessageType.TEXT, claim.content), key)


async def test_a_new_host_waits_out_the_gap_of_a_transmission_that_nobody_recorded(sender: Sender) -> None:
    device = await sender.add_device()
    _, ids = await sender.add_messages(device, 3, min_delay_seconds=20, max_delay_seconds=40)
    assert (await sender.send(device)).sent == 1
    over_at = system_clock() - timedelta(seconds=1)
    await sender.ledger.change(await sender.ledger.lane(device), next_send_at=over_at)
    died_at = system_clock()
    await transmit_and_die(sender, device)
    sender.activities.forget(device.id)

    result = await sender.send(device)

    assert (result.unknown, result.ended) == (1, SliceEnd.WINDOW)
    assert result.next_at is not None
    assert timedelta(seconds=39) < result.next_at - died_at < timedelta(seconds=41)
    assert await sender.statuses(ids) == ["sent", "unknown", "pending"]
    sender.activities.forget(device.id)
    again = await sender.send(device)
    assert again.next_at is not None
    assert abs(again.next_at - result.next_at) < timedelta(seconds=1), "the gap is recorded with the outcome"


async def test_the_gap_is_kept_also_where_a_receipt_has_settled_the_transmission_first(sender: Sender) -> None:
    await sender.network.configure(delivered_rate=1, delivered_seconds=(0, 0))
    device = await sender.add_device()
    _, ids = await sender.add_messages(device, 2, min_delay_seconds=20, max_delay_seconds=40)
    died_at = system_clock()
    await transmit_and_die(sender, device)
    [attempt] = await sender.ledger.attempts(ids[0])
    async with sender.ledger.sessions.begin() as session:
        statement = text("UPDATE message_attempts SET whatsapp_id = 'known' WHERE message_id = :id")
        await session.execute(statement, {"id": attempt.message_id})
    await sender.ledger.receive(Receipt(device.id, "known", ReceiptKind.DELIVERED, system_clock()))

    result = await sender.send(device)

    assert await sender.statuses(ids) == ["delivered", "pending"]
    assert result.next_at is not None
    assert timedelta(seconds=39) < result.next_at - died_at < timedelta(seconds=41)


async def test_a_claim_that_was_never_transmitted_leaves_no_gap(sender: Sender) -> None:
    device = await sender.add_device()
    _, ids = await sender.add_messages(device, 2, min_delay_seconds=20, max_delay_seconds=40)
    await sender.ledger.claimed(device, at=system_clock())

    assert (await sender.send(device)).sent == 1

    assert await sender.statuses(ids) == ["sent", "pending"]


async def test_a_gap_that_was_recorded_is_not_taken_for_a_longer_one(sender: Sender) -> None:
    device = await sender.add_device()
    await sender.add_messages(device, 2, min_delay_seconds=1, max_delay_seconds=3000)
    first = await sender.send(device)
    assert first.next_at is not None
    sender.activities.forget(device.id)

    again = await sender.send(device)

    assert again.next_at is not None
    assert abs(again.next_at - first.next_at) < timedelta(seconds=1)


async def test_a_device_that_warms_up_keeps_its_cap_also_at_a_host_that_has_just_got_it(sender: Sender) -> None:
    sender.use_slices()
    device = await sender.add_device(warm_up_started_at=system_clock(), warm_up_first_day=2, warm_up_daily_step=1)
    _, ids = await sender.add_messages(device, 4)
    for _ in range(3):
        assert (await sender.send(device)).ended is SliceEnd.CAP
        sender.activities.forget(device.id)

    assert await sender.statuses(ids) == ["sent", "sent", "pending", "pending"]


async def test_a_device_that_has_used_up_its_cap_waits_and_says_until_when(sender: Sender) -> None:
    sender.use_slices()
    device = await sender.add_device(max_per_hour=2)
    _, ids = await sender.add_messages(device, 3)

    result = await sender.send(device)

    assert (result.sent, result.ended) == (2, SliceEnd.CAP)
    assert result.next_at is not None
    assert timedelta(minutes=59) < result.next_at - system_clock() < timedelta(minutes=61)
    assert await sender.statuses(ids) == ["sent", "sent", "pending"]


async def test_a_new_host_counts_what_was_sent_before_it(sender: Sender) -> None:
    sender.use_slices()
    device = await sender.add_device(max_per_day=2)
    _, ids = await sender.add_messages(device, 3)
    for _ in range(2):
        claim = await sender.ledger.claimed(device, at=system_clock())
        await sender.host._sends._transmitter.transmit(claim, gap=timedelta(0))

    assert (await sender.send(device)).ended is SliceEnd.CAP
    assert await sender.statuses(ids) == ["sent", "sent", "pending"]


async def test_a_cap_that_was_raised_is_seen_at_the_next_try(sender: Sender) -> None:
    sender.use_slices()
    device = await sender.add_device(max_per_hour=1)
    await sender.add_messages(device, 2)
    assert (await sender.send(device)).ended is SliceEnd.CAP

    await sender.ledger.change(device, max_per_hour=10)

    assert (await sender.send(device)).sent == 1


async def test_a_device_that_was_at_another_host_meanwhile_is_counted_anew(sender: Sender) -> None:
    device = await sender.add_device(max_per_hour=2)
    await sender.add_messages(device, 3)
    assert (await sender.send(device)).sent == 1
    other = Ledger(sender.ledger.sessions)
    await other.open()
    await sender.ledger.change(device, host_id=other.host.id)
    assert isinstance(sender.host._connections, Connections)
    await sender.host._connections._let_go(device.id)
    [claim] = await other.claims([device], at=system_clock())
    await other.record(record_of(claim, at=system_clock()))

    await sender.ledger.change(device, host_id=sender.ledger.host.id)
    await sender.transport.connect(DeviceRef(device.id, device.jid or "", device.link_generation))

    assert (await sender.send(device)).ended is SliceEnd.CAP


async def test_a_contact_who_opted_out_is_passed_over(sender: Sender) -> None:
    sender.use_slices()
    device = await sender.add_device()
    _, ids = await sender.add_messages(device, 3)
    async with sender.ledger.sessions.begin() as session:
        await suppress(session, device.user_id, (await sender.ledger.message(ids[1])).recipient_phone)

    result = await sender.send(device)

    assert (result.sent, result.suppressed, result.ended) == (2, 1, SliceEnd.DRAINED)
    assert await sender.statuses(ids) == ["sent", "suppressed", "sent"]
    assert await sender.network.transmitted() == 2


async def test_refused_messages_do_not_stop_a_slice(sender: Sender) -> None:
    sender.use_slices()
    await sender.network.configure(failure_rate=1, failure_codes={"server_error_500": 1})
    device = await sender.add_device()
    _, ids = await sender.add_messages(device, 3)

    result = await sender.send(device)

    assert (result.failed, result.ended) == (3, SliceEnd.DRAINED)
    assert await sender.statuses(ids) == ["failed"] * 3
    await sender.ledger.check()


async def test_a_message_of_a_type_that_nobody_can_transmit_fails_and_does_not_block_the_lane(sender: Sender) -> None:
    sender.use_slices()
    device = await sender.add_device()
    async with sender.ledger.sessions.begin() as session:
        odd = await add_one_off(session, device, message_type="telegram", scheduled_at=LONG_AGO)
    _, ids = await sender.add_messages(device)

    result = await sender.send(device)

    assert (result.sent, result.failed, result.ended) == (1, 1, SliceEnd.DRAINED)
    message = await sender.ledger.message(odd)
    assert (str(message.status), message.error_code, message.is_retryable) == ("failed", "unsupported_type", False)
    assert await sender.statuses(ids) == ["sent"]
    assert await sender.network.transmitted() == 1


async def test_a_device_that_is_asked_to_slow_down_backs_off_by_temporals_retry(sender: Sender) -> None:
    await sender.network.configure(rate_limit_rate=1, rate_limit_seconds=33)
    device = await sender.add_device()
    _, ids = await sender.add_messages(device)

    with pytest.raises(ApplicationError) as caught:
        await sender.send(device)

    assert (caught.value.next_retry_delay, caught.value.non_retryable) == (timedelta(seconds=33), False)
    assert await sender.statuses(ids) == ["pending"]
    await sender.network.configure(rate_limit_rate=0)
    assert (await sender.send(device)).sent == 1
    assert await sender.network.transmitted() == 1


async def test_a_device_that_may_not_open_chats_stops_and_shows_it(sender: Sender) -> None:
    device = await sender.add_device()
    _, ids = await sender.add_messages(device)
    await sender.network.restrict(device.id)

    assert (await sender.send(device)).ended is SliceEnd.RESTRICTED

    async with sender.ledger.sessions() as session:
        row = await session.get_one(Device, device.id)
    assert row.restricted_until_at is not None
    assert row.restricted_until_at > system_clock()
    assert row.last_error == "restricted_463"
    assert await sender.statuses(ids) == ["pending"]
    assert (await sender.send(device)).ended is SliceEnd.DRAINED


async def test_a_chat_that_whatsapp_does_not_take_for_one_is_not_tried_again_while_the_device_is_restricted(
    sender: Sender,
) -> None:
    device = await sender.add_device()
    _, first = await sender.add_messages(device)
    assert (await sender.send(device)).sent == 1
    campaign = await sender.ledger.campaign()
    again, other = await sender.ledger.messages(campaign, device, 2, scheduled_at=LONG_AGO)
    phone = (await sender.ledger.message(first[0])).recipient_phone
    async with sender.ledger.sessions.begin() as session:
        statement = text("UPDATE broadcast_messages SET recipient_phone = :phone WHERE id = :id")
        await session.execute(statement, {"phone": phone, "id": again})
    sender.transport.restricts = True
    assert (await sender.send(device)).ended is SliceEnd.RESTRICTED

    assert (await sender.send(device)).ended is SliceEnd.DRAINED

    assert len(await sender.ledger.attempts(again)) == 1
    assert (await sender.ledger.message(again)).scheduled_at > system_clock() + timedelta(minutes=59)
    assert await sender.statuses([again, other]) == ["pending", "pending"]


async def test_a_device_without_a_connection_claims_nothing(sender: Sender) -> None:
    device = await sender.add_device()
    _, ids = await sender.add_messages(device)
    await sender.network.drop(device.id)
    await eventually(lambda: sender.transport.state(device.id) is DeviceState.OFFLINE)

    assert (await sender.send(device)).ended is SliceEnd.OFFLINE

    assert await sender.statuses(ids) == ["pending"]
    assert await sender.ledger.attempts(ids[0]) == []


async def test_a_device_of_another_host_is_fenced_off(sender: Sender) -> None:
    device = await sender.add_device()
    _, ids = await sender.add_messages(device)
    other = Ledger(sender.ledger.sessions)
    await other.open()
    await sender.ledger.change(device, host_id=other.host.id)

    assert (await sender.send(device)).ended is SliceEnd.FENCED
    assert await sender.statuses(ids) == ["pending"]


async def test_a_host_without_a_lease_is_fenced_off_and_transmits_nothing(sender: Sender) -> None:
    sender.use_slices()
    devices = [await sender.add_device() for _ in range(3)]
    for device in devices:
        await sender.add_messages(device)
    await sender.ledger.change(sender.ledger.host, ended_at=system_clock())

    results = await asyncio.gather(*(sender.send(device) for device in devices))

    assert [result.ended for result in results] == [SliceEnd.FENCED] * 3
    assert await sender.network.transmitted() == 0


async def test_what_a_dead_host_left_claimed_is_settled_before_anything_is_sent(sender: Sender) -> None:
    sender.use_slices()
    device = await sender.add_device()
    _, ids = await sender.add_messages(device, 3)
    await sender.ledger.claimed(device, at=system_clock())

    result = await sender.send(device)

    assert (result.sent, result.ended) == (3, SliceEnd.DRAINED)
    outcomes = [[attempt.outcome for attempt in await sender.ledger.attempts(message_id)] for message_id in ids]
    assert outcomes[0] == [AttemptOutcome.NOT_ATTEMPTED, AttemptOutcome.SENT]
    assert await sender.network.transmitted() == 3
    await sender.ledger.check()


async def test_two_activities_of_a_device_never_send_at_the_same_time(sender: Sender) -> None:
    """Temporal may start an activity again while the first one still runs."""
    sender.use_slices()
    device = await sender.add_device()
    _, ids = await sender.add_messages(device, 10)

    results = await asyncio.gather(*(sender.send(device) for _ in range(4)))

    assert sum(result.sent for result in results) == 10
    assert await sender.statuses(ids) == ["sent"] * 10
    assert await sender.network.transmitted() == 10


async def test_an_activity_that_is_cancelled_brings_its_transmission_to_an_end_and_the_next_one_waits_for_it(
    sender: Sender,
) -> None:
    sender.use_slices()
    device = await sender.add_device()
    _, ids = await sender.add_messages(device, 2)
    sender.transport.gate.clear()
    first = asyncio.create_task(sender.send(device))
    await sender.transport.waiting.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.create_task(sender.send(device))
    await asyncio.sleep(0.2)
    assert await sender.statuses(ids) == ["claimed", "pending"]

    sender.transport.gate.set()

    assert (await second).ended is SliceEnd.DRAINED
    assert await sender.statuses(ids) == ["sent", "sent"]
    assert await sender.network.transmitted() == 2
    assert [len(await sender.ledger.attempts(message_id)) for message_id in ids] == [1, 1]
    await sender.ledger.check()


async def test_an_activity_that_is_cancelled_before_it_transmits_leaves_no_claim_behind(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "CLAIM_AHEAD", timedelta(seconds=0.9))
    sender.use_slices()
    device = await sender.add_device()
    _, ids = await sender.add_messages(device, 2, min_delay_seconds=1, max_delay_seconds=1)
    first = asyncio.create_task(sender.send(device))
    await sender.reach(ids, ["sent", "claimed"])
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first

    await sender.send(device)

    assert await sender.statuses(ids) == ["sent", "sent"]
    assert await sender.network.transmitted() == 2
    await sender.ledger.check()


async def test_a_draining_host_finishes_what_is_under_way_and_begins_nothing(sender: Sender) -> None:
    sender.use_slices()
    device = await sender.add_device()
    _, ids = await sender.add_messages(device, 2)
    sender.transport.gate.clear()
    running = asyncio.create_task(sender.send(device))
    await sender.transport.waiting.wait()
    draining = asyncio.create_task(sender.activities.drain())
    await asyncio.sleep(0.05)
    assert not draining.done()

    sender.transport.gate.set()
    await draining

    assert (await running).ended is SliceEnd.OFFLINE
    assert await sender.statuses(ids) == ["sent", "pending"]


async def test_a_draining_host_waits_for_no_gap_and_sends_nothing_after_it(sender: Sender) -> None:
    sender.use_slices()
    device = await sender.add_device()
    _, ids = await sender.add_messages(device, 2, min_delay_seconds=30, max_delay_seconds=30)
    running = asyncio.create_task(sender.send(device))
    await sender.reach(ids, ["sent", "pending"])
    await asyncio.sleep(0.05)

    await sender.activities.drain()

    assert (await asyncio.wait_for(running, 1)).ended is SliceEnd.OFFLINE
    assert await sender.statuses(ids) == ["sent", "pending"]


async def test_a_database_that_is_away_fails_the_activity_and_loses_nothing(sender: Sender) -> None:
    sender.use_slices()
    device = await sender.add_device()
    _, ids = await sender.add_messages(device)
    async with sender.ledger.sessions.begin() as session:
        await session.execute(text("ALTER TABLE hosts RENAME TO hosts_away"))

    with pytest.raises(ApplicationError) as caught:
        await sender.send(device)

    assert str(caught.value.message) == "the database is away"
    assert not caught.value.non_retryable
    async with sender.ledger.sessions.begin() as session:
        await session.execute(text("ALTER TABLE hosts_away RENAME TO hosts"))
    assert (await sender.send(device)).sent == 1
    assert await sender.statuses(ids) == ["sent"]


async def test_pausing_a_campaign_takes_effect_at_the_next_message_of_a_slice(sender: Sender) -> None:
    sender.use_slices()
    device = await sender.add_device()
    campaign, ids = await sender.add_messages(device, 3, min_delay_seconds=1, max_delay_seconds=1)
    running = asyncio.create_task(sender.send(device))
    await sender.reach(ids, ["sent", "pending", "pending"])
    await sender.ledger.change(campaign, status="paused")

    assert (await running).ended is SliceEnd.DRAINED
    assert await sender.statuses(ids) == ["sent", "pending", "pending"]
