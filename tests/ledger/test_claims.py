"""Claims: one row per device, in the right order, and none that must not be sent."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from siaran.ledger.claims import Claim, ClaimRequest, FencedError, claim_messages
from siaran.models import ONE_OFF, AttemptOutcome, CampaignStatus, MessageStatus, campaign_source
from tests.factories import NOW, add_device, add_one_off, add_user, after, suppress
from tests.ledger.driver import Ledger, record_of


async def test_each_device_gets_one_message(ledger: Ledger) -> None:
    campaign = await ledger.campaign()
    devices = [await ledger.device() for _ in range(3)]
    for device in devices:
        await ledger.messages(campaign, device, 2)

    claims = await ledger.claims(devices)

    assert sorted(claim.device_id for claim in claims) == sorted(device.id for device in devices)
    assert await ledger.counts(campaign) == {"pending": 6}
    await ledger.check()


async def test_a_claim_counts_an_attempt_and_writes_it_down_with_what_it_says(ledger: Ledger) -> None:
    campaign = await ledger.campaign(
        message="Hi {{name}}, {{niche|friend}} of {{phone}}", image_url="https://example.com/a.jpg"
    )
    device = await ledger.device(link_generation=7, max_per_minute=3)
    [message_id] = await ledger.messages(campaign, device, ["60123456789"], recipient_name="Siti")

    claim = await ledger.claimed(device)

    assert (claim.message_id, claim.attempt, claim.content) == (message_id, 1, "Hi Siti, friend of 60123456789")
    assert (claim.media_url, claim.link_generation, claim.caps.per_minute) == ("https://example.com/a.jpg", 7, 3)
    [attempt] = await ledger.attempts(message_id)
    assert (attempt.attempt, attempt.device_id, attempt.host_id) == (1, device.id, ledger.host.id)
    assert (attempt.link_generation, attempt.outcome, attempt.attempted_at) == (7, AttemptOutcome.OPEN, NOW)
    assert (attempt.content, attempt.media_url) == ("Hi Siti, friend of 60123456789", "https://example.com/a.jpg")
    message = await ledger.message(message_id)
    assert (message.status, message.attempt, message.claimed_at) == (MessageStatus.CLAIMED, 1, NOW)
    await ledger.check()


async def test_a_message_is_claimed_once(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)

    assert await ledger.claim(device) is not None
    assert await ledger.claim(device) is None


async def test_messages_go_in_the_order_in_which_they_are_due(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    [later] = await ledger.messages(campaign, device, scheduled_at=after(-1))
    [earlier] = await ledger.messages(campaign, device, scheduled_at=after(-2))

    assert [(await ledger.claimed(device)).message_id for _ in range(2)] == [earlier, later]


async def test_a_message_that_is_not_due_yet_is_not_claimed(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device, scheduled_at=after(1))

    assert await ledger.claim(device, at=after(0.999)) is None
    assert await ledger.claim(device, at=after(1)) is not None


async def test_two_campaigns_take_turns_on_a_device(ledger: Ledger) -> None:
    device = await ledger.device()
    campaigns = [await ledger.campaign() for _ in range(3)]
    for campaign in campaigns:
        await ledger.messages(campaign, device, 2)

    source, order = "", []
    for _ in range(6):
        claim = await ledger.claimed(device, after_source=source)
        order.append(claim.campaign_id or 0)
        source = claim.source

    assert order[:3] == order[3:]
    assert sorted(order[:3]) == sorted(campaign.id for campaign in campaigns)


async def test_one_off_messages_go_first_and_are_sent_as_they_are_written(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device(min_delay_seconds=4, max_delay_seconds=5)
    await ledger.messages(campaign, device, scheduled_at=after(-60))
    async with ledger.sessions.begin() as session:
        one_off = await add_one_off(session, device, content="Only {you|me}, {{name}}")

    claim = await ledger.claimed(device, after_source=campaign_source(campaign.id))

    assert (claim.message_id, claim.source, claim.content, claim.campaign_id) == (
        one_off,
        ONE_OFF,
        "Only {you|me}, {{name}}",
        None,
    )
    assert (claim.min_delay_seconds, claim.max_delay_seconds) == (4, 5)


async def test_the_gap_after_a_message_is_that_of_its_campaign(ledger: Ledger) -> None:
    device = await ledger.device(min_delay_seconds=1, max_delay_seconds=2)
    campaign = await ledger.campaign(min_delay_seconds=10, max_delay_seconds=30)
    await ledger.messages(campaign, device)

    claim = await ledger.claimed(device)

    assert (claim.min_delay_seconds, claim.max_delay_seconds) == (10, 30)


async def test_a_campaign_that_is_not_under_way_claims_nothing(ledger: Ledger) -> None:
    device, ids = await ledger.device(), []
    for status in set(CampaignStatus) - {CampaignStatus.SENDING, CampaignStatus.WAITING}:
        campaign = await ledger.campaign(status=status)
        ids += await ledger.messages(campaign, device)

    assert await ledger.claim(device) is None
    assert {await ledger.status(message_id) for message_id in ids} == {MessageStatus.PENDING}
    assert len(ids) == 5


async def test_a_campaign_that_waits_goes_on_as_soon_as_it_can(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(status=CampaignStatus.WAITING), await ledger.device()
    await ledger.messages(campaign, device)

    assert await ledger.claim(device) is not None


async def test_a_paused_campaign_with_a_thousand_rows_at_the_head_does_not_stop_another(ledger: Ledger) -> None:
    device = await ledger.device()
    paused = await ledger.campaign(status=CampaignStatus.PAUSED)
    other = await ledger.campaign()
    await ledger.messages(paused, device, 1000, scheduled_at=after(-3600))
    await ledger.messages(other, device, 2)

    claims = [await ledger.claimed(device, after_source=source) for source in ("", campaign_source(other.id))]

    assert [claim.campaign_id for claim in claims] == [other.id, other.id]
    assert await ledger.claim(device) is None


async def test_a_device_that_may_not_send_claims_nothing(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)
    lane = await ledger.lane(device)

    await ledger.change(lane, paused_at=NOW)
    assert await ledger.claim(device) is None
    await ledger.change(lane, paused_at=None)
    await ledger.change(device, restricted_until_at=after(60))
    assert await ledger.claim(device, at=after(59)) is None
    assert await ledger.claim(device, at=after(60)) is not None


async def test_a_device_that_is_gone_claims_nothing(ledger: Ledger) -> None:
    campaign = await ledger.campaign()
    for change in ({"is_active": False}, {"deleted_at": NOW}, {"host_id": None}):
        device = await ledger.device()
        await ledger.messages(campaign, device)
        await ledger.change(device, **change)

        assert await ledger.claim(device) is None, change


async def test_a_host_claims_nothing_for_the_device_of_another(ledger: Ledger) -> None:
    other = Ledger(ledger.sessions)
    await other.open()
    campaign, device = await ledger.campaign(), await ledger.device(other.host)
    await ledger.messages(campaign, device)

    assert await ledger.claims([device], host=ledger.host) == []
    assert len(await ledger.claims([device], host=other.host)) == 1


@pytest.mark.parametrize("end", ["lease expired", "host ended"])
async def test_a_host_without_a_lease_is_fenced_off(ledger: Ledger, end: str) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    [message_id] = await ledger.messages(campaign, device)
    if end == "lease expired":
        await ledger.end_lease(ledger.host)
    else:
        await ledger.change(ledger.host, ended_at=NOW)

    with pytest.raises(FencedError):
        await ledger.claim(device)
    assert await ledger.status(message_id) == MessageStatus.PENDING


async def test_a_host_is_not_ended_while_a_claim_of_it_is_being_committed(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)
    async with ledger.sessions() as claiming, ledger.sessions() as ending:
        await claim_messages(claiming, ledger.host.id, [ClaimRequest(device.id, "")], NOW)
        end = asyncio.create_task(
            ending.execute(text("UPDATE hosts SET ended_at = now() WHERE id = :host"), {"host": ledger.host.id})
        )
        done, _ = await asyncio.wait([end], timeout=0.2)
        assert not done
        await claiming.commit()
        await end
        await ending.commit()

    with pytest.raises(FencedError):
        await ledger.claim(device)


async def test_a_suppressed_phone_ends_without_an_attempt(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    [stopped, other] = await ledger.messages(campaign, device, ["60121111111", "60122222222"])
    async with ledger.sessions.begin() as session:
        await suppress(session, ledger.user.id, "60121111111")

    claim = await ledger.claimed(device)

    assert (claim.message_id, claim.is_suppressed) == (stopped, True)
    message = await ledger.message(stopped)
    assert (message.status, message.attempt) == (MessageStatus.SUPPRESSED, 0)
    assert await ledger.attempts(stopped) == []
    assert (await ledger.claimed(device)).message_id == other
    assert await ledger.counts(campaign) == {"pending": 1, "suppressed": 1}
    await ledger.check()


async def test_an_opt_out_that_was_lifted_or_is_another_users_suppresses_nothing(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device, ["60121111111", "60122222222"])
    async with ledger.sessions.begin() as session:
        stranger = await add_user(session)
        await suppress(session, stranger.id, "60121111111")
        await suppress(session, ledger.user.id, "60122222222")
        await session.execute(text("UPDATE suppressions SET lifted_at = now() WHERE phone = '60122222222'"))

    assert [(await ledger.claimed(device)).is_suppressed for _ in range(2)] == [False, False]


async def test_a_row_that_is_being_moved_is_skipped_and_belongs_to_its_new_device(ledger: Ledger) -> None:
    campaign = await ledger.campaign()
    old, new = await ledger.device(), await ledger.device()
    [message_id] = await ledger.messages(campaign, old)

    async with ledger.sessions() as moving:
        await moving.execute(
            text("UPDATE broadcast_messages SET device_id = :new WHERE id = :id"), {"new": new.id, "id": message_id}
        )
        assert await ledger.claims([old, new]) == []
        await moving.commit()

    assert await ledger.claim(old) is None
    assert (await ledger.claimed(new)).message_id == message_id


async def test_a_row_that_moved_between_the_look_and_the_lock_is_not_claimed_by_its_old_device(ledger: Ledger) -> None:
    """The claim's snapshot still shows the row on the old device; only the repeated condition keeps it off."""
    campaign = await ledger.campaign()
    old, new = await ledger.device(), await ledger.device()
    [message_id] = await ledger.messages(campaign, old)
    async with ledger.sessions.begin() as session:
        # Reading the lanes takes half a second now: after the statement's snapshot, before it locks a row.
        await session.execute(text("ALTER TABLE lanes RENAME TO lanes_kept"))
        await session.execute(text("CREATE VIEW lanes AS SELECT l.* FROM pg_sleep(0.5), lanes_kept l"))

    claim = asyncio.create_task(ledger.claim(old))
    await asyncio.sleep(0.2)
    async with ledger.sessions.begin() as session:
        await session.execute(text("UPDATE broadcast_messages SET device_id = :new"), {"new": new.id})

    assert await claim is None
    message = await ledger.message(message_id)
    assert (message.device_id, message.status, message.attempt) == (new.id, MessageStatus.PENDING, 0)


async def test_claims_at_the_same_time_never_take_the_same_row(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    ids = await ledger.messages(campaign, device, 30)

    async def claim_until_none() -> list[Claim]:
        found = []
        misses = 0
        while misses < 20:
            claims = await ledger.claims([device])
            found += claims
            misses += not claims
        return found

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(claim_until_none()) for _ in range(4)]
    claimed = [claim.message_id for task in tasks for claim in task.result()]

    assert sorted(claimed) == ids
    for message_id in ids:
        assert len(await ledger.attempts(message_id)) == 1
    await ledger.check()


async def test_an_edited_text_reaches_the_next_claim_and_older_attempts_keep_theirs(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(message="First {{name}}"), await ledger.device()
    ids = await ledger.messages(campaign, device, 2)
    first = await ledger.claimed(device)
    await ledger.change(campaign, message="Second {{name}}", image_url="https://example.com/b.jpg")

    second = await ledger.claimed(device)

    assert (first.content, second.content, second.media_url) == ("First Ali", "Second Ali", "https://example.com/b.jpg")
    attempts = [(await ledger.attempts(message_id))[0] for message_id in ids]
    assert [attempt.content for attempt in attempts] == ["First Ali", "Second Ali"]


async def test_what_a_contact_is_called_is_never_read_as_a_template(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(message="Hi {{name}}"), await ledger.device()
    await ledger.messages(campaign, device, recipient_name="{{phone}} {a|b}")

    assert (await ledger.claimed(device)).content == "Hi {{phone}} {a|b}"


async def test_the_next_attempt_of_a_message_has_the_next_number(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    [message_id] = await ledger.messages(campaign, device)
    first = await ledger.claimed(device)
    await ledger.record(record_of(first, MessageStatus.PENDING, error_code="not_connected"))

    second = await ledger.claimed(device, at=after(5))

    assert (second.message_id, second.attempt) == (message_id, 2)
    assert [attempt.outcome for attempt in await ledger.attempts(message_id)] == [
        AttemptOutcome.NOT_ATTEMPTED,
        AttemptOutcome.OPEN,
    ]
    message = await ledger.message(message_id)
    assert (message.claimed_at, message.error_code) == (after(5), None)


async def test_asking_for_nothing_and_for_unknown_devices_claims_nothing(ledger: Ledger) -> None:
    async with ledger.sessions.begin() as session:
        assert await claim_messages(session, ledger.host.id, [], NOW) == []
        assert await claim_messages(session, ledger.host.id, [ClaimRequest(UUID(int=1), "")], NOW) == []


async def test_a_message_of_another_user_is_never_claimed_by_a_device(ledger: Ledger) -> None:
    """No row should ever be like that; if one is, it stays."""
    campaign = await ledger.campaign()
    async with ledger.sessions.begin() as session:
        stranger = await add_user(session)
        theirs = await add_device(session, stranger, ledger.host)
    [message_id] = await ledger.messages(campaign, theirs)

    assert await ledger.claim(theirs) is None
    assert await ledger.status(message_id) == MessageStatus.PENDING


async def test_a_claim_reads_a_few_rows_however_many_wait(ledger: Ledger) -> None:
    device = await ledger.device()
    campaigns = [await ledger.campaign(status=status) for status in (CampaignStatus.PAUSED, CampaignStatus.SENDING)]
    for campaign in campaigns:
        await ledger.messages(campaign, device, 1000)
    read = text("""
        SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables
        WHERE relname = 'broadcast_messages'
    """)
    async with ledger.sessions.begin() as session:
        await session.execute(text("ANALYZE broadcast_messages"))
    async with ledger.sessions.begin() as session:
        assert len(await claim_messages(session, ledger.host.id, [ClaimRequest(device.id, "")], NOW)) == 1
        rows_read = await session.scalar(read)

    assert rows_read is not None
    assert 1 <= rows_read < 20


async def test_due_order_holds_for_a_lane_that_comes_late(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    due = [await ledger.messages(campaign, device, scheduled_at=NOW + timedelta(minutes=minute)) for minute in (3, 1, 2)]

    claims = [await ledger.claimed(device, at=after(3600)) for _ in due]

    assert [claim.message_id for claim in claims] == [due[1][0], due[2][0], due[0][0]]
