"""The send activity: a device's due messages, one after another, with the gaps and caps between them."""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.desks import Desk, open_desk
from activities.transmission import Transmitter, record_of
from siaran.clock import Clock
from siaran.contracts import SendInput, SendResult, SliceEnd
from siaran.db import SessionMaker
from siaran.gateway.interface import DeviceState, NotConnected, RateLimited, Restricted
from siaran.ledger.claims import Claim, ClaimRequest, FencedError
from siaran.ledger.group_commit import GroupCommit
from siaran.ledger.settlement import open_claims
from siaran.models import AttemptOutcome, MessageStatus
from siaran.pacing import draw_gap
from siaran.settings import Settings

log = structlog.get_logger()

SLICE = timedelta(seconds=60)
"""How long a slice takes new messages when many lanes are awake."""

LONGEST_SLICE = timedelta(seconds=300)
"""What slices grow to: each costs Temporal the same, however many messages it sends."""

SLICE_GROWS_ABOVE = 1000
"""Lanes at a usual gap up to which a slice stays short; twice as many make it twice as long."""

USUAL_GAP_SECONDS = 20.0
"""The mean of the default delays, 10 to 30 s."""

CLAIM_AHEAD = timedelta(milliseconds=200)
"""A claim is asked for this long before its turn, so that its group commit does not make the message late."""

RETURN_AHEAD = timedelta(milliseconds=250)
"""A lane's timer ends this long before the message's turn; the rest is waited out in the activity."""

HEAD_START = timedelta(seconds=30)
"""The same between slices: a shorter gap needs no timer at all, and a server that is slow makes no message late."""

LONG_CAP = timedelta(seconds=60)
"""A cap that holds a device back for longer is shown as what its lane waits for."""

RESTRICTION = timedelta(hours=1)
"""How long a device that WhatsApp restricted (463) opens no new chats."""

STALE_CLAIM = timedelta(seconds=30)
"""A claim that could not be transmitted for this long after its turn is settled, not transmitted."""

Answer = TypeVar("Answer")


@dataclass(slots=True)
class Tally:
    """What one activity has done so far."""

    statuses: Counter[MessageStatus] = field(default_factory=Counter)
    campaign_id: int | None = None

    def result(self, ended: SliceEnd, next_at: datetime | None = None) -> SendResult:
        """The activity's result; the ledger, not this, says what happened to each message."""
        count = self.statuses
        return SendResult(
            sent=count[MessageStatus.SENT],
            failed=count[MessageStatus.FAILED],
            unknown=count[MessageStatus.UNKNOWN],
            suppressed=count[MessageStatus.SUPPRESSED],
            ended=ended,
            next_at=next_at,
            campaign_id=self.campaign_id,
        )


class SendActivities:
    """The sends of one host. At most one message of a device is under way at any time, whatever Temporal dispatches."""

    def __init__(
        self,
        *,
        host_id: int,
        settings: Settings,
        sessions: SessionMaker,
        transmitter: Transmitter,
        claims: GroupCommit[ClaimRequest, Claim | None],
        clock: Clock,
    ) -> None:
        self._host_id = host_id
        self._settings = settings
        self._sessions = sessions
        self._transmitter = transmitter
        self._claims = claims
        self._clock = clock
        self._desks: dict[UUID, Desk] = {}
        self._locks: defaultdict[UUID, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._under_way: dict[UUID, asyncio.Task[Any]] = {}
        self._draining = asyncio.Event()
        self.lanes_running = 0

    def forget(self, device_id: UUID) -> None:
        """Read a device's desk anew at its next send: its connection went, or its claims are in doubt."""
        self._desks.pop(device_id, None)

    async def drain(self) -> None:
        """Begin nothing more, and wait for what is under way."""
        self._draining.set()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def finish(self, device_id: UUID) -> None:
        """Return once nothing of a device is under way."""
        while (task := self._under_way.get(device_id)) is not None:
            await asyncio.wait({task})

    @activity.defn(name="send")
    async def send(self, order: SendInput) -> SendResult:
        """Send a device's due messages for one window; one message while few lanes are awake.

        Raises a retryable `ApplicationError` where WhatsApp asks the device to slow down or PostgreSQL is away; everything else
        that can happen is a result, and stands in the ledger.
        """
        try:
            async with self._locks[order.device_id]:
                if (left_over := self._under_way.get(order.device_id)) is not None:
                    # An activity that was given up left its claim or its transmission behind: that ends first.
                    await asyncio.wait({left_over})
                desk = await self._open(order)
                return await self._slice(desk) if desk is not None else Tally().result(SliceEnd.FENCED)
        except (SQLAlchemyError, OSError) as error:
            self.forget(order.device_id)
            raise ApplicationError("the database is away", type=type(error).__name__) from None
        except FencedError:
            self.forget(order.device_id)
            return Tally().result(SliceEnd.FENCED)

    async def settle(self, device_id: UUID, user_id: UUID) -> None:
        """Settle what somebody who is gone had claimed for a device of this host; needs no connection, transmits nothing.

        What cannot be settled now is left to the device's next send, or to the sweep.
        """
        async with self._locks[device_id]:
            if (left_over := self._under_way.get(device_id)) is not None:
                await asyncio.wait({left_over})
            try:
                desk = await self._open(SendInput(device_id, user_id))
                if desk is not None and not desk.is_settled:
                    await self._settle(desk, Tally())
            except (SQLAlchemyError, OSError) as error:
                self.forget(device_id)
                log.warning("not_settled", device=str(device_id), error=type(error).__name__)

    async def _open(self, order: SendInput) -> Desk | None:
        desk = self._desks.get(order.device_id)
        if desk is None:
            async with self._sessions() as session:
                desk = await open_desk(session, self._host_id, order.user_id, order.device_id, self._clock())
            if desk is not None:
                self._desks[order.device_id] = desk
        return desk

    def _window(self, desk: Desk) -> timedelta:
        """How long one activity sends: one message while all lanes together send little, a slice above that.

        What Temporal can bear is messages a second. `slice_above_lanes` counts lanes at a usual gap; shorter gaps weigh more.
        """
        if self._settings.send_window != "auto":
            return min(timedelta(seconds=self._settings.send_window), LONGEST_SLICE)
        gap = USUAL_GAP_SECONDS if desk.mean_gap_seconds is None else max(desk.mean_gap_seconds, 0.1)
        load = self.lanes_running * USUAL_GAP_SECONDS / gap
        if load <= self._settings.slice_above_lanes:
            return timedelta(0)
        return min(SLICE * max(load / SLICE_GROWS_ABOVE, 1.0), LONGEST_SLICE)

    async def _slice(self, desk: Desk) -> SendResult:
        tally = Tally()
        window = self._window(desk)
        # Never ahead by a whole window: the next slice has to reach its first message, also where clocks differ a little.
        ahead = max(min(HEAD_START, window / 2), RETURN_AHEAD)
        end_at = self._clock() + window
        suppresses_until_at = max(end_at, self._clock() + SLICE)
        while True:
            if not self._can_send(desk):
                return tally.result(SliceEnd.OFFLINE)
            if not desk.is_settled:
                await self._settle(desk, tally)
            now = self._clock()
            turn_at = desk.ready_at(now)
            if turn_at - now > RETURN_AHEAD * 2 and (turn_at > end_at or not window):
                return self._come_back(desk, tally, now, turn_at - ahead)
            if not await self._may_begin(turn_at - CLAIM_AHEAD):
                return tally.result(SliceEnd.OFFLINE)
            claim = await self._claim(desk)
            if claim is None:
                return tally.result(SliceEnd.DRAINED)
            if claim.is_suppressed:
                tally.statuses[MessageStatus.SUPPRESSED] += 1
                if self._clock() >= suppresses_until_at:
                    return tally.result(SliceEnd.WINDOW, desk.ready_at(self._clock()) - ahead)
                continue
            await self._sleep_until(turn_at)
            if self._clock() - turn_at > STALE_CLAIM:
                # This process stood still in between: somebody else may have settled the claim. Settle it like a stranger's.
                continue
            ended = await self._transmit(desk, claim, tally)
            if ended is not None:
                return tally.result(ended)
            if not window or self._clock() >= end_at:
                return tally.result(SliceEnd.WINDOW, desk.ready_at(self._clock()) - ahead)

    def _come_back(self, desk: Desk, tally: Tally, now: datetime, next_at: datetime) -> SendResult:
        """The result of a slice that the next message is too far off for."""
        if not desk.is_capped(now, LONG_CAP):
            return tally.result(SliceEnd.WINDOW, next_at)
        # Somebody may raise the cap meanwhile, and no claim brings the news.
        self.forget(desk.device_id)
        return tally.result(SliceEnd.CAP, next_at)

    def _can_send(self, desk: Desk) -> bool:
        return not self._draining.is_set() and self._transmitter.transport.state(desk.device_id) is DeviceState.ONLINE

    async def _may_begin(self, at: datetime) -> bool:
        """Wait until it is time to ask for a message; False as soon as this host begins nothing more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout((at - self._clock()).total_seconds()):
                await self._draining.wait()
        return not self._draining.is_set()

    async def _sleep_until(self, at: datetime) -> None:
        if (seconds := (at - self._clock()).total_seconds()) > 0:
            await asyncio.sleep(seconds)

    async def _claim(self, desk: Desk) -> Claim | None:
        # Until the claim is known to be committed or not, a row of this device may be claimed for nobody.
        desk.is_settled = False
        claim = await self._shielded(desk, self._claims.submit(ClaimRequest(desk.device_id, desk.after_source)))
        # A claim that is not transmitted, because the activity was cancelled first, is settled by the next one.
        desk.is_settled = claim is None or claim.is_suppressed
        if claim is not None:
            desk.after_source = claim.source
            desk.caps = claim.caps
            desk.mean_gap_seconds = (claim.min_delay_seconds + claim.max_delay_seconds) / 2
        return claim

    async def _transmit(self, desk: Desk, claim: Claim, tally: Tally) -> SliceEnd | None:
        """Transmit and record a claim, to its end even if this activity is cancelled; says why the slice stops, if it does."""
        gap = draw_gap(claim.min_delay_seconds, claim.max_delay_seconds)
        began_at = self._clock()
        desk.window.add(began_at)
        desk.next_at = desk.recorded_next_at = began_at + gap
        record, error = await self._shielded(desk, self._transmitter.transmit(claim, gap=gap))
        desk.is_settled = True
        tally.statuses[record.status] += 1
        tally.campaign_id = claim.campaign_id
        if isinstance(error, RateLimited):
            delay = timedelta(seconds=error.retry_after_seconds)
            raise ApplicationError("WhatsApp asked to slow down", type="RateLimited", next_retry_delay=delay) from None
        if isinstance(error, Restricted):
            await self._note_restriction(desk, claim)
            return SliceEnd.RESTRICTED
        return SliceEnd.OFFLINE if isinstance(error, NotConnected) else None

    async def _settle(self, desk: Desk, tally: Tally) -> None:
        """Settle rows that somebody who is gone had claimed; nothing new is claimed before."""
        async with self._sessions() as session:
            claims = await open_claims(session, desk.user_id, desk.device_id)
        for claim in claims:
            log.info("settling", message=claim.message_id, attempt=claim.attempt, device=str(desk.device_id))
            base = record_of(claim, claim.attempted_at, desk.next_at)
            record = await self._shielded(desk, self._transmitter.settle(claim, base))
            tally.statuses[record.status] += 1
            if record.outcome is AttemptOutcome.NOT_ATTEMPTED:
                desk.next_at = desk.recorded_next_at
        desk.is_settled = True

    async def _shielded(self, desk: Desk, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Bring work to its end even if the activity is cancelled; the device's next activity waits for it."""
        task = asyncio.create_task(work)
        self._under_way[desk.device_id] = task
        task.add_done_callback(lambda done: self._finish(desk.device_id, done))
        return await asyncio.shield(task)

    def _finish(self, device_id: UUID, task: asyncio.Task[Any]) -> None:
        if self._under_way.get(device_id) is task:
            del self._under_way[device_id]
        if not task.cancelled() and task.exception() is not None:
            # Retrieved here too, for the case that nobody waits any more.
            log.info("send_step_failed", device=str(device_id), error=type(task.exception()).__name__)

    async def _note_restriction(self, desk: Desk, claim: Claim) -> None:
        until_at = self._clock() + RESTRICTION
        async with self._sessions.begin() as session:
            # WhatsApp may refuse what we take for a chat, too. At the head of its queue it would be tried after every gap.
            await session.execute(
                text("""
                    UPDATE broadcast_messages SET scheduled_at = :until
                    WHERE id = :message AND user_id = :user AND device_id = :device AND status = 'pending'
                        AND has_chat(user_id, device_id, recipient_phone)
                """),
                {"until": until_at, "message": claim.message_id, "device": desk.device_id, "user": desk.user_id},
            )
            await session.execute(
                text("""
                    UPDATE user_devices SET restricted_until_at = :until, last_error = 'restricted_463', last_error_at = :now
                    WHERE id = :device AND user_id = :user
                """),
                {"until": until_at, "now": self._clock(), "device": desk.device_id, "user": desk.user_id},
            )
