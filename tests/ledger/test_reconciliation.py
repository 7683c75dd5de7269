"""What the comparison reads from the ledger: messages, attempts with their keys, and what a person asked to repeat."""

from siaran.attempt_keys import attempt_key
from siaran.db import SessionMaker
from siaran.gateway.interface import Body, DeviceRef, MessageType
from siaran.gateway.simulated import SimulatedTransport
from siaran.gateway.simulated_network import SimulatedNetwork
from siaran.models import AttemptOutcome, CampaignRetry, Device, MessageAttempt, MessageStatus
from siaran.reconciliation import LedgerAttempt, LedgerRow, Reason, ledger_rows, reconcile_campaigns
from tests.factories import NOW, add_campaign, add_device, add_messages, add_user

SECRET = b"of this test"


def attempt_of(message_id: int, device: Device, *, attempt: int = 1, outcome: AttemptOutcome) -> MessageAttempt:
    return MessageAttempt(
        message_id=message_id,
        attempt=attempt,
        user_id=device.user_id,
        device_id=device.id,
        host_id=1,
        link_generation=1,
        outcome=outcome,
        content="Hi",
        attempted_at=NOW,
    )


async def test_rows_come_with_the_keys_of_their_attempts_and_with_what_a_person_asked_for(sessions: SessionMaker):
    async with sessions.begin() as session:
        user = await add_user(session)
        device = await add_device(session, user)
        campaign = await add_campaign(session, user)
        (message,) = await add_messages(session, campaign, device, ["60123456701"], status=MessageStatus.UNKNOWN)
        session.add(attempt_of(message, device, outcome=AttemptOutcome.UNKNOWN))
        session.add_all(
            CampaignRetry(user_id=user.id, campaign_id=campaign.id, message_id=only, requested_by=user.id, requested_at=NOW)
            for only in (message, None)
        )
    async with sessions() as session:
        rows = await ledger_rows(session, user.id, [campaign.id], SECRET)
    attempt = LedgerAttempt(attempt_key(SECRET, message, 1).hex(), AttemptOutcome.UNKNOWN)
    assert rows == [LedgerRow(message, campaign.id, "60123456701", MessageStatus.UNKNOWN, [attempt], [NOW])]


async def test_rows_of_other_campaigns_and_other_users_are_left_out(sessions: SessionMaker):
    async with sessions.begin() as session:
        user, stranger = await add_user(session), await add_user(session)
        wanted, other = await add_campaign(session, user), await add_campaign(session, user)
        foreign = await add_campaign(session, stranger)
        for owner, campaign in ((user, wanted), (user, other), (stranger, foreign)):
            await add_messages(session, campaign, await add_device(session, owner))
    async with sessions() as session:
        rows = await ledger_rows(session, user.id, [wanted.id, foreign.id], SECRET)
    assert [row.campaign_id for row in rows] == [wanted.id]


async def test_what_a_transport_sent_is_found_in_the_ledger_by_its_key(sessions: SessionMaker, network_url: str):
    phones = ["60123456701", "60123456702"]
    async with sessions.begin() as session:
        user = await add_user(session)
        device = await add_device(session, user)
        campaign = await add_campaign(session, user)
        messages = await add_messages(session, campaign, device, phones, status=MessageStatus.SENT)
        session.add_all(attempt_of(message, device, outcome=AttemptOutcome.SENT) for message in messages)
    transport = SimulatedTransport(network_url)
    await transport.open()
    async with SimulatedNetwork(network_url) as network, sessions() as session:
        await network.configure(latency_ms=(0, 0))
        ref: DeviceRef = (await network.link(device.id, "60198765432")).ref
        await transport.connect(ref)
        for message, phone in zip(messages, phones, strict=True):
            await transport.send(device.id, phone, Body(MessageType.TEXT, "Hi"), attempt_key(SECRET, message, 1))
        assert (await reconcile_campaigns(session, network, user.id, {campaign.id: phones}, SECRET)).is_clean
        # Somebody with another secret made none of these attempts.
        foreign = await reconcile_campaigns(session, network, user.id, {campaign.id: phones}, b"another")
        assert {one.reason for one in foreign.unaccounted} == {Reason.NOT_IN_LEDGER, Reason.NOT_TRANSMITTED}
    await transport.close()
