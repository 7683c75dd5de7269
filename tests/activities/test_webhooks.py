"""Rounds of deliveries against real receivers: what counts as success, what is tried again when, and what is given up."""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from sqlalchemy import select, update
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from activities import webhooks as activity_module
from activities.resources import Resources
from activities.webhooks import WebhookActivities
from siaran import webhook_posts
from siaran.clock import system_clock
from siaran.contracts import WebhookInput, WebhookReach, WebhookRound
from siaran.db import SessionMaker
from siaran.models import Activity, DeliveryStatus, User, Webhook, WebhookDelivery
from siaran.settings import Settings
from siaran.webhook_events import Announcement, WebhookEvent, announce, default_target
from siaran.webhook_outbox import (
    GONE,
    KEPT,
    NEVER_UP,
    NO_ADDRESS,
    SWITCHED_OFF,
    Outcome,
    prune_deliveries,
    record_outcomes,
)
from siaran.webhook_retries import MOST_TRIES, Answer
from siaran.webhooks import WebhookChanges, add_ping, add_webhook
from tests.api.conftest import MovableClock
from tests.factories import add_user
from tests.webhook_receivers import Reply, WebhookReceiver, webhook_receiver

SECRET = "of the installation"


class Outbox:
    """A user with a webhook, its outbox, and a worker that delivers."""

    def __init__(self, resources: Resources, environment: ActivityEnvironment, clock: MovableClock) -> None:
        self.use = resources
        self.clock = clock
        self.activities = WebhookActivities(resources)
        self.reach = WebhookReach()
        self._environment = environment
        self.user: User
        self.webhook: Webhook

    async def open(self, url: str) -> None:
        async with self.use.sessions.begin() as session:
            self.user = await add_user(session)
            events = list(WebhookEvent)
            self.webhook = await add_webhook(session, self.user.id, WebhookChanges(url, events, True))

    async def write(self, *texts: str, event: WebhookEvent = WebhookEvent.MESSAGE) -> list[int]:
        """Have things happen; returns the deliveries."""
        news = [Announcement(self.user.id, event, {"message": text}) for text in texts]
        async with self.use.sessions.begin() as session:
            await announce(session, news, defaults=self.use.settings.webhook.split(",") if self.use.settings.webhook else ())
            query = select(WebhookDelivery.id).order_by(WebhookDelivery.id.desc()).limit(len(texts))
            return sorted(await session.scalars(query))

    async def deliver(self, target: str = "") -> WebhookRound:
        """One round, which knows what the one before it has found."""
        order = WebhookInput(self.user.id, target or str(self.webhook.id), self.reach)
        result: WebhookRound = await self._environment.run(self.activities.deliver_webhooks, order)
        self.reach = result.reach
        return result

    async def until_next(self, result: WebhookRound) -> None:
        """Let time pass until the workflow would begin another round."""
        next_at = max(at for at in (result.next_at, result.reach.held_until_at) if at is not None)
        self.clock.advance(next_at - self.clock() + timedelta(milliseconds=1))

    async def rows(self) -> list[WebhookDelivery]:
        """The deliveries, oldest first."""
        async with self.use.sessions() as session:
            return list(await session.scalars(select(WebhookDelivery).order_by(WebhookDelivery.id)))

    async def row(self) -> WebhookDelivery:
        """The only one."""
        (row,) = await self.rows()
        return row

    async def statuses(self) -> list[DeliveryStatus]:
        """What became of each."""
        return [row.status for row in await self.rows()]


@pytest.fixture
def outer_clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookReceiver]:
    async with webhook_receiver() as receiver:
        yield receiver


@pytest.fixture
async def outbox(
    settings: Settings,
    sessions: SessionMaker,
    redis: Redis,
    temporal_client: Client,
    environment: ActivityEnvironment,
    outer_clock: MovableClock,
    receiver: WebhookReceiver,
) -> AsyncIterator[Outbox]:
    settings = settings.model_copy(update={"allow_private_targets": True})
    outbox = Outbox(Resources(settings, sessions, redis, temporal_client, outer_clock), environment, outer_clock)
    await outbox.open(receiver.url)
    yield outbox
    await outbox.activities.close()


async def test_a_delivery_is_signed_json_with_its_number(outbox: Outbox, receiver: WebhookReceiver) -> None:
    (delivery,) = await outbox.write("Selamat pagi ☕")

    result = await outbox.deliver()

    assert (result.delivered, result.failed, result.next_at) == (1, 0, None)
    (request,) = receiver.got
    assert request.line == "POST /hook HTTP/1.1"
    assert request.body == '{"event":"message","data":{"message":"Selamat pagi ☕"}}'.encode()
    signature = hmac.new(outbox.webhook.secret.encode(), request.body, hashlib.sha256).hexdigest()
    assert request.headers["x-hub-signature-256"] == f"sha256={signature}"
    assert request.headers["x-siaran-event"] == "message"
    assert request.delivery == delivery
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("Siaran/")
    assert request.headers["host"] in receiver.url
    row = await outbox.row()
    assert (row.status, row.tries, row.status_code, row.answer) == (DeliveryStatus.DELIVERED, 1, 200, "ok")
    assert row.ended_at is not None
    assert row.took_ms is not None
    assert row.body == request.body


@pytest.mark.parametrize("status", [500, 502, 404, 400, 301, 302, 307])
async def test_anything_but_2xx_is_tried_again_under_the_same_number(
    outbox: Outbox, receiver: WebhookReceiver, status: int
) -> None:
    receiver.always(status, Location="http://127.0.0.1:1/elsewhere")
    await outbox.write("hello")

    result = await outbox.deliver()

    row = await outbox.row()
    assert (row.status, row.tries, row.status_code, result.delivered) == (DeliveryStatus.PENDING, 1, status, 0)
    assert result.next_at == row.try_at
    assert timedelta(seconds=5) < row.try_at - outbox.clock() < timedelta(seconds=15)
    assert len(receiver.got) == 1, "not tried at once, nor at the place that it was sent to"
    receiver.always(200)
    await outbox.until_next(result)
    assert (await outbox.deliver()).delivered == 1
    first, second = receiver.got
    assert (first.delivery, first.body) == (second.delivery, second.body)


async def test_a_delivery_that_never_succeeds_fails_after_a_day_for_all_to_see(
    outbox: Outbox, receiver: WebhookReceiver
) -> None:
    receiver.always(500)
    await outbox.write("hello")
    began_at = outbox.clock()

    result = await outbox.deliver()
    while result.next_at is not None:
        await outbox.until_next(result)
        result = await outbox.deliver()

    row = await outbox.row()
    assert (row.status, row.tries, row.status_code) == (DeliveryStatus.FAILED, MOST_TRIES, 500)
    assert len(receiver.got) == MOST_TRIES
    assert timedelta(hours=15) < outbox.clock() - began_at < timedelta(hours=30)
    assert result.failed == 1


async def test_an_address_that_does_not_answer_in_time_is_tried_again(
    outbox: Outbox, receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_posts, "WHOLE_SECONDS", 0.3)
    receiver.never()
    await outbox.write("hello")

    await outbox.deliver()

    row = await outbox.row()
    assert (row.status, row.status_code, row.error) == (DeliveryStatus.PENDING, None, "no answer within 0 s")
    assert row.took_ms is not None
    assert 250 < row.took_ms < 3_000


async def test_an_answer_whose_content_never_ends_counts_by_its_status_and_is_cut_off(
    outbox: Outbox, receiver: WebhookReceiver
) -> None:
    receiver.reply = lambda _: Reply(200, {"content-length": "50000000"}, b"x" * 5_000 + b"\0")
    await outbox.write("hello")

    await outbox.deliver()

    row = await outbox.row()
    assert row.status is DeliveryStatus.DELIVERED
    assert row.answer == "x" * webhook_posts.KEPT_OF_ANSWER


async def test_an_address_where_nobody_listens_is_tried_again(outbox: Outbox, receiver: WebhookReceiver) -> None:
    await outbox.write("hello")
    async with webhook_receiver() as gone:
        url = gone.url
    await change(outbox, url=url)

    await outbox.deliver()

    row = await outbox.row()
    assert (row.status, row.error) == (DeliveryStatus.PENDING, "cannot be reached")


async def change(outbox: Outbox, **values: object) -> None:
    async with outbox.use.sessions.begin() as session:
        await session.execute(update(Webhook).where(Webhook.id == outbox.webhook.id).values(**values))


@pytest.mark.parametrize("url", ["http://999.999.999.999/", "https://☃.example/hook"])
async def test_an_address_that_is_none_is_told_in_the_log(outbox: Outbox, url: str) -> None:
    await outbox.write("hello")
    await change(outbox, url=url)

    await outbox.deliver()

    row = await outbox.row()
    assert (row.status, row.tries, row.error) == (DeliveryStatus.PENDING, 1, "is no http:// or https:// address")


async def test_private_addresses_are_refused_at_every_delivery(
    settings: Settings,
    sessions: SessionMaker,
    redis: Redis,
    temporal_client: Client,
    environment: ActivityEnvironment,
    outer_clock: MovableClock,
    receiver: WebhookReceiver,
) -> None:
    outbox = Outbox(Resources(settings, sessions, redis, temporal_client, outer_clock), environment, outer_clock)
    await outbox.open(receiver.url)
    await outbox.write("hello")

    await outbox.deliver()

    row = await outbox.row()
    assert row.status is DeliveryStatus.PENDING
    assert row.error is not None
    assert "not on the public internet" in row.error
    assert receiver.got == []
    await outbox.activities.close()


async def test_one_delivery_that_keeps_failing_lets_the_others_go_ahead(outbox: Outbox, receiver: WebhookReceiver) -> None:
    receiver.reply = lambda request: Reply(500 if "poison" in request.body.decode() else 200)
    await outbox.write("poison", *(f"good {number}" for number in range(40)))

    result = await outbox.deliver()

    assert result.delivered == 40
    assert result.reach.held_until_at is None
    for _ in range(3):
        await outbox.until_next(result)
        await outbox.write("later")
        result = await outbox.deliver()
        assert result.delivered == 1
        assert result.reach.held_until_at is None
    first, *rest = await outbox.rows()
    assert (first.status, first.tries) == (DeliveryStatus.PENDING, 4)
    assert {row.status for row in rest} == {DeliveryStatus.DELIVERED}


async def test_deliveries_begin_in_their_order_a_few_side_by_side(outbox: Outbox, receiver: WebhookReceiver) -> None:
    deliveries = await outbox.write(*(str(number) for number in range(100)))

    assert (await outbox.deliver()).delivered == 100

    places = [deliveries.index(request.delivery) for request in receiver.got]
    assert sorted(places) == list(range(100))
    assert max(abs(place - position) for position, place in enumerate(places)) <= 2 * webhook_posts.SIDE_BY_SIDE
    assert receiver.open_at_once <= webhook_posts.SIDE_BY_SIDE


async def test_an_address_that_is_down_is_tried_by_one_delivery_at_a_time(outbox: Outbox, receiver: WebhookReceiver) -> None:
    receiver.always(503)
    await outbox.write(*(str(number) for number in range(50)))

    result = await outbox.deliver()

    assert len(receiver.got) <= webhook_posts.SIDE_BY_SIDE, "not once for each of them"
    assert result.reach.held_until_at is not None
    for _ in range(5):
        before, held_until_at = len(receiver.got), result.reach.held_until_at
        await outbox.until_next(result)
        result = await outbox.deliver()
        assert len(receiver.got) == before + 1
        assert result.reach.held_until_at is not None
        assert held_until_at is not None
        assert result.reach.held_until_at > held_until_at

    receiver.always(200)
    await outbox.until_next(result)
    result = await outbox.deliver()
    assert result.delivered == 50, "all at once, those with long delays included"
    assert result.next_at is None
    assert set(await outbox.statuses()) == {DeliveryStatus.DELIVERED}


async def test_what_an_address_that_stays_down_has_not_taken_for_a_day_fails(outbox: Outbox, receiver: WebhookReceiver) -> None:
    receiver.always(500)
    await outbox.write(*(str(number) for number in range(20)))
    result = await outbox.deliver()
    outbox.clock.advance(timedelta(hours=23))
    result = await outbox.deliver()
    assert DeliveryStatus.FAILED not in await outbox.statuses()

    outbox.clock.advance(timedelta(hours=2))
    result = await outbox.deliver()

    assert result.next_at is None
    rows = await outbox.rows()
    assert {row.status for row in rows} == {DeliveryStatus.FAILED}
    assert NEVER_UP in {row.error for row in rows}


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_heeded_for_the_whole_address(outbox: Outbox, receiver: WebhookReceiver, status: int) -> None:
    receiver.always(status, Retry_After="120")
    await outbox.write("hello")

    result = await outbox.deliver()

    assert result.reach.held_until_at is not None
    assert timedelta(seconds=115) < result.reach.held_until_at - outbox.clock() <= timedelta(seconds=120)
    assert (await outbox.row()).try_at - outbox.clock() > timedelta(seconds=115)


async def test_410_switches_the_webhook_off_and_says_so(outbox: Outbox, receiver: WebhookReceiver) -> None:
    receiver.always(410)
    await outbox.write(*(str(number) for number in range(20)))

    result = await outbox.deliver()

    assert result.next_at is None
    assert set(await outbox.statuses()) == {DeliveryStatus.FAILED}
    assert GONE in {row.error for row in await outbox.rows()}
    async with outbox.use.sessions() as session:
        assert not (await session.get_one(Webhook, outbox.webhook.id)).is_active
        kinds = list(await session.scalars(select(Activity.kind)))
    assert kinds.count("webhook.switched_off") == 1
    await outbox.write("nobody hears this")
    assert len(await outbox.rows()) == 20


@pytest.mark.parametrize("values", [{"is_active": False}, {"deleted_at": system_clock(), "is_active": False}])
async def test_what_is_pending_when_a_webhook_is_switched_off_or_deleted_fails(
    outbox: Outbox, receiver: WebhookReceiver, values: dict[str, object]
) -> None:
    await outbox.write("a", "b")
    await change(outbox, **values)

    result = await outbox.deliver()

    assert (result.failed, result.next_at) == (2, None)
    assert {row.error for row in await outbox.rows()} == {SWITCHED_OFF}
    assert receiver.got == []


async def test_only_who_subscribed_is_told(outbox: Outbox) -> None:
    await change(outbox, events=["receipt"])
    await outbox.write("a message")
    await outbox.write("a receipt", event=WebhookEvent.RECEIPT)
    assert [row.event for row in await outbox.rows()] == ["receipt"]


async def test_a_new_webhook_hears_of_the_very_next_event(outbox: Outbox) -> None:
    await change(outbox, events=[])
    await outbox.write("before")
    async with outbox.use.sessions.begin() as session:
        new = await add_webhook(session, outbox.user.id, WebhookChanges("http://127.0.0.1:1/", [WebhookEvent.MESSAGE], True))
    await outbox.write("after")
    assert [row.webhook_id for row in await outbox.rows()] == [new.id]


async def test_a_ping_goes_ahead_of_what_is_pending(outbox: Outbox, receiver: WebhookReceiver) -> None:
    await outbox.write(*(str(number) for number in range(30)))
    async with outbox.use.sessions.begin() as session:
        ping = await add_ping(session, outbox.user.id, outbox.webhook.id, outbox.clock())

    await outbox.deliver()

    assert ping.id in {request.delivery for request in receiver.got[: webhook_posts.SIDE_BY_SIDE]}
    assert {"event": "ping", "webhookId": str(outbox.webhook.id)}.items() <= {
        **receiver.got[[request.delivery for request in receiver.got].index(ping.id)].json["data"],
        "event": "ping",
    }.items()


async def test_a_webhook_that_is_changed_during_a_round_gets_no_more_of_it(outbox: Outbox, receiver: WebhookReceiver) -> None:
    await outbox.write(*(str(number) for number in range(200)))

    async def end_it() -> None:
        await receiver.has_got(5)
        await change(outbox, is_active=False)

    ending = asyncio.create_task(end_it())
    result = await outbox.deliver()
    await ending

    assert len(receiver.got) < 200
    assert result.next_at is not None
    assert (await outbox.deliver()).next_at is None
    assert set(await outbox.statuses()) == {DeliveryStatus.DELIVERED, DeliveryStatus.FAILED}


async def test_a_round_makes_room_for_others_and_says_that_there_is_more(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity_module, "ROUND_SECONDS", 0.0)
    await outbox.write("a")
    result = await outbox.deliver()
    assert (result.delivered, result.next_at) == (0, (await outbox.row()).try_at)


async def test_an_outcome_is_counted_once_however_often_it_is_recorded(outbox: Outbox, receiver: WebhookReceiver) -> None:
    receiver.always(500)
    await outbox.write("hello")
    await outbox.deliver()
    (before,) = await outbox.rows()
    async with outbox.use.sessions.begin() as session:  # a worker that was thought to be dead comes back with an old try
        late = Answer(None, "late", "", timedelta(seconds=1))
        await record_outcomes(session, [Outcome(before.id, outbox.user.id, 0, DeliveryStatus.FAILED, late, outbox.clock())])
    row = await outbox.row()
    assert (row.status, row.tries, row.status_code) == (DeliveryStatus.PENDING, 1, 500)


class TestDefaultAddresses:
    """Addresses of the installation, for messages of users who have no webhook of their own for them."""

    @pytest.fixture
    def settings(self, settings: Settings, receiver: WebhookReceiver) -> Settings:
        return settings.model_copy(update={"webhook": receiver.url, "webhook_secret": SecretStr(SECRET)})

    def target(self, outbox: Outbox) -> str:
        return default_target(outbox.user.id, outbox.use.settings.webhook)

    async def test_they_hear_of_messages_signed_with_the_installation_s_secret(
        self, outbox: Outbox, receiver: WebhookReceiver
    ) -> None:
        await change(outbox, events=["receipt"])
        await outbox.write("hello")

        assert (await outbox.deliver(self.target(outbox))).delivered == 1

        (request,) = receiver.got
        signature = hmac.new(SECRET.encode(), request.body, hashlib.sha256).hexdigest()
        assert request.headers["x-hub-signature-256"] == f"sha256={signature}"
        assert (await outbox.row()).webhook_id is None

    async def test_they_hear_nothing_of_users_who_have_their_own(self, outbox: Outbox) -> None:
        await outbox.write("hello")
        assert (await outbox.row()).webhook_id == outbox.webhook.id

    async def test_they_hear_of_messages_alone(self, outbox: Outbox) -> None:
        await change(outbox, is_active=False)
        await outbox.write("hello", event=WebhookEvent.RECEIPT)
        assert await outbox.rows() == []

    async def test_one_that_was_taken_out_of_the_settings_is_told_nothing(
        self, outbox: Outbox, receiver: WebhookReceiver
    ) -> None:
        await change(outbox, is_active=False)
        await outbox.write("hello")
        async with outbox.use.sessions.begin() as session:
            await session.execute(update(WebhookDelivery).values(target="f" * 32))
        await outbox.deliver("f" * 32)
        assert (await outbox.row()).error == NO_ADDRESS
        assert receiver.got == []


async def test_old_deliveries_are_removed_and_pending_ones_kept(outbox: Outbox) -> None:
    await outbox.write("old", "old but pending", "young")
    old, pending, young = await outbox.rows()
    async with outbox.use.sessions.begin() as session:
        long_ago = outbox.clock() - KEPT - timedelta(minutes=1)
        await session.execute(
            update(WebhookDelivery).where(WebhookDelivery.id.in_([old.id, pending.id])).values(created_at=long_ago)
        )
        await session.execute(
            update(WebhookDelivery).where(WebhookDelivery.id.in_([old.id, young.id])).values(status=DeliveryStatus.DELIVERED)
        )
    async with outbox.use.sessions.begin() as session:
        await prune_deliveries(session, outbox.clock())
    assert [row.id for row in await outbox.rows()] == [pending.id, young.id]


async def test_somebody_else_s_order_delivers_nothing(outbox: Outbox, receiver: WebhookReceiver) -> None:
    await outbox.write("hello")
    order = WebhookInput(uuid4(), str(outbox.webhook.id))
    result: WebhookRound = await ActivityEnvironment().run(outbox.activities.deliver_webhooks, order)
    assert (result.delivered, result.failed, result.next_at) == (0, 0, None)
    assert (await outbox.row()).status is DeliveryStatus.PENDING
    assert isinstance(outbox.webhook.id, UUID)
    assert receiver.got == []
