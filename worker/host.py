"""A device host: a process that holds the connections of some devices and runs their send activities."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated
from uuid import UUID

import structlog
import typer
import uvloop
from redis.asyncio import Redis
from temporalio.client import Client
from temporalio.runtime import Runtime, TelemetryConfig

from activities.sending import SendActivities
from activities.transmission import Transmitter
from siaran.attempt_keys import secret_of
from siaran.cache import open_redis
from siaran.chat_notices import ChatNotices
from siaran.clock import Clock, system_clock
from siaran.db import SessionMaker, open_database
from siaran.gateway.interface import Transport
from siaran.ledger.claims import Claim, ClaimRequest, FencedError, claim_messages
from siaran.ledger.group_commit import OUTAGES, GroupCommit
from siaran.ledger.records import Record, record_outcomes
from siaran.logging import configure_logging
from siaran.metrics import count_messages, serve_metrics
from siaran.models import TransportKind
from siaran.settings import Settings, get_settings
from siaran.temporal import connect
from siaran.webhook_events import split_addresses, targets_told
from siaran.webhook_signals import nudge_webhooks
from worker.budget import Budget, watch_budget
from worker.chat_media import ChatDownloads
from worker.connections import Connections
from worker.device_news import DeviceNews
from worker.host_reads import HostReads
from worker.inbox import Inbox
from worker.intake import Intake
from worker.lease import LeaseLost, end_host, keep_lease, renew_lease
from worker.membership import Membership
from worker.queues import DeviceQueues
from worker.renewal import RENEW, Renewal
from worker.transports import open_transport

log = structlog.get_logger()

FAILED = 1
LOST = 3
"""The exit code of a host that somebody else has ended."""

DRAIN_SECONDS = 95.0
"""How long a host that is told to stop waits for sends under way: the longest send, and a little."""

CLOSE_SECONDS = 10.0
"""How long it then waits for its connections to end in good order; they end with the process anyway."""

LAST_SECONDS = 5.0
"""How long what they reported last may take to be written."""


class Host:
    """One host from its first lease renewal to its last record."""

    def __init__(
        self,
        host_id: int,
        *,
        settings: Settings,
        sessions: SessionMaker,
        redis: Redis,
        client: Client,
        transport: Transport,
        clock: Clock,
    ) -> None:
        self.host_id = host_id
        self.renewal = Renewal()
        self._sessions = sessions
        self._client = client
        self._transport = transport
        self._clock = clock
        self._chats = ChatNotices(redis) if settings.chat_storage else None
        self._claims = GroupCommit[ClaimRequest, Claim | None](self._claim, indivisible=(*OUTAGES, FencedError))
        self._records = GroupCommit[Record, None](self._record, retry_seconds=0.5)
        transmitter = Transmitter(
            transport=transport,
            sessions=sessions,
            record=self._records.submit,
            clock=clock,
            secret=secret_of(settings),
            receipt_wait=timedelta(seconds=settings.receipt_wait_seconds),
            store_chats=settings.chat_storage,
        )
        self._sends = SendActivities(
            host_id=host_id,
            settings=settings,
            sessions=sessions,
            transmitter=transmitter,
            claims=self._claims,
            clock=clock,
        )
        self._queues = DeviceQueues(
            client,
            send=self._sends.send,
            sessions=sessions,
            redis=redis,
            clock=clock,
            lanes_running=self._note_lanes,
        )
        self._news = DeviceNews(host_id, sessions=sessions, client=client, clock=clock, settle=self._sends.settle)
        self._connections = self._devices()
        self._intake = Intake(
            transport=transport,
            sessions=sessions,
            client=client,
            news=self._news,
            inbox=Inbox(
                sessions=sessions,
                client=client,
                redis=redis,
                clock=clock,
                chats=self._chats,
                auto_reply=settings.auto_reply,
                webhook_defaults=split_addresses(settings.webhook),
            ),
            noticed=self._connections.noticed,
            changed=self._note_connection,
            chats=self._chats,
        )
        self._downloads = ChatDownloads(host_id, transport=transport, sessions=sessions, redis=redis, clock=clock)
        self._reads = HostReads(host_id, client=client, transport=transport, redis=redis)
        self._budget = Budget(settings.host_memory_mb, settings.host_descriptors)

    def _devices(self) -> Connections | Membership:
        """What decides which devices are connected when, as the transport allows."""
        if self._transport.connects_while_serving:
            return Connections(
                self.host_id,
                transport=self._transport,
                sessions=self._sessions,
                news=self._news,
                clock=self._clock,
                changed=self._note_connection,
                lost=self._queues.lost,
            )
        return Membership(
            self.host_id,
            transport=self._transport,
            sessions=self._sessions,
            news=self._news,
            clock=self._clock,
            changed=self._note_connection,
            lost=self._queues.lost,
            finish=self._sends.finish,
            renewal=self.renewal,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Hold the devices until told to stop or in need of a renewal, then drain; see `renewal` for which it was.

        Raises `LeaseLost` when somebody else has ended this host.
        """
        await renew_lease(self._sessions, self.host_id)
        await self._transport.open()
        intake = asyncio.create_task(self._intake.follow(), name="intake")
        serving = asyncio.create_task(self._serve(), name="host")
        tasks = [asyncio.create_task(keep_lease(self._sessions, self.host_id), name="lease"), serving, intake]
        ends = [asyncio.create_task(stop.wait()), asyncio.create_task(self.renewal.wait())]
        try:
            done, _ = await asyncio.wait([*tasks, *ends], return_when=asyncio.FIRST_COMPLETED)
            for task in done.intersection(tasks):
                task.result()
        finally:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drain(), DRAIN_SECONDS)
            serving.cancel()  # before its devices are gone: it would connect them again
            await asyncio.wait({serving})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._close(intake), CLOSE_SECONDS + LAST_SECONDS)
            for task in [*tasks, *ends]:
                task.cancel()
            await asyncio.gather(*tasks, *ends, return_exceptions=True)

    async def _serve(self) -> None:
        """Connect what has to be connected first, then do everything that a host does, for ever."""
        await self._connections.begin()
        self._intake.release()
        work = [
            self._connections.follow(),
            self._news.note_seen(),
            self._queues.reconcile(),
            self._queues.follow_notices(),
            self._reads.run(),
            self._downloads.run(),
        ]
        if not self._transport.connects_while_serving:
            work.append(watch_budget(self._budget, self.renewal))
        async with asyncio.TaskGroup() as group:
            for coroutine in work:
                group.create_task(coroutine)

    async def _drain(self) -> None:
        """Begin nothing more, bring to an end and record what is under way."""
        await asyncio.gather(self._connections.close(), self._news.end())
        await asyncio.gather(self._sends.drain(), self._queues.close(), self._reads.close())
        await asyncio.gather(self._claims.close(), self._records.close())
        await self._write_down()

    async def _close(self, intake: asyncio.Task[None]) -> None:
        """End the connections, and write down the last that they report: WhatsApp may count it as taken."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._transport.close(), CLOSE_SECONDS)
        await asyncio.wait({intake}, timeout=1)
        await self._write_down()

    async def _write_down(self) -> None:
        """Write what the connections have reported so far, and announce it."""
        await self._intake.close()
        await self._news.close()
        if self._chats is not None:
            await self._chats.close()

    def _note_connection(self, device_id: UUID, online: bool) -> None:
        if not online:
            # Another host may have the device before it comes back here.
            self._sends.forget(device_id)
        self._queues.changed(device_id, online)

    def _note_lanes(self, running: int) -> None:
        self._sends.lanes_running = running

    async def _claim(self, requests: Sequence[ClaimRequest]) -> Sequence[Claim | None]:
        async with self._sessions.begin() as session:
            claims = await claim_messages(session, self.host_id, requests, self._clock())
        by_device = {claim.device_id: claim for claim in claims}
        return [by_device.get(request.device_id) for request in requests]

    async def _record(self, records: Sequence[Record]) -> Sequence[None]:
        async with self._sessions.begin() as session:
            await record_outcomes(session, records, store_chats=self._chats is not None)
        nudge_webhooks(self._client, targets_told(session))
        if self._chats is not None:
            self._chats.tell(record.device_id for record in records)
        for status, count in Counter(record.status for record in records).items():
            count_messages(status.value, count)
        return [None] * len(records)


async def run_host(
    host_id: int, settings: Settings, clock: Clock = system_clock, kind: TransportKind = TransportKind.SIMULATED
) -> int:
    """Run a host until SIGTERM or SIGINT, until its lease is lost or it needs a renewal; returns its exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    # Thousands of workers share this process: none of them sends heartbeats of its own to the server.
    runtime = Runtime(telemetry=TelemetryConfig(), worker_heartbeat_interval=None)
    async with open_database(settings, pool_size=6) as sessions, open_redis(settings) as redis:
        client = await connect(settings, runtime=runtime)
        transport = open_transport(settings, clock, kind)
        host = Host(
            host_id,
            settings=settings,
            sessions=sessions,
            redis=redis,
            client=client,
            transport=transport,
            clock=clock,
        )
        log.info("host_started", host=host_id, transport=kind.value)
        try:
            await host.run(stop)
        except LeaseLost:
            log.warning("lease_lost", host=host_id)
            return LOST
        if host.renewal.is_asked and not stop.is_set():
            log.info("host_renewed", host=host_id, reason=host.renewal.reason)
            return RENEW
        await end_host(sessions, host_id)
        log.info("host_stopped", host=host_id)
        return 0


async def live(host_id: int, settings: Settings, kind: TransportKind) -> None:
    """Run a host, and end the process as soon as it is over."""
    if kind is not TransportKind.WHATSAPP:
        raise SystemExit(await run_host(host_id, settings, kind=kind))
    try:
        code = await run_host(host_id, settings, kind=kind)
    except Exception as error:
        log.exception("host_failed", host=host_id, error=type(error).__name__)
        code = FAILED
    # A thread that waits inside the library may wait for ever, and an ordinary end of the process would wait for it.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


def main(
    host_id: Annotated[int, typer.Option(help="The id of this host's row, made by the fleet.")],
    transport: Annotated[TransportKind, typer.Option(help="What its devices connect through.")] = TransportKind.SIMULATED,
) -> None:
    """Hold the connections of the devices that the fleet gives to this host."""
    settings = get_settings()
    configure_logging(debug=settings.debug)
    serve_metrics(settings, "host", str(host_id))
    uvloop.run(live(host_id, settings, transport))


if __name__ == "__main__":
    typer.run(main)
