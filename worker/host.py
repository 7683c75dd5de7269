"""A device host: a process that holds the connections of some devices and runs their send activities."""

import asyncio
import contextlib
import signal
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
from siaran.clock import Clock, system_clock
from siaran.db import SessionMaker, open_database
from siaran.gateway.interface import Transport
from siaran.gateway.simulated import SimulatedTransport
from siaran.ledger.claims import Claim, ClaimRequest, FencedError, claim_messages
from siaran.ledger.group_commit import OUTAGES, GroupCommit
from siaran.ledger.records import Record, record_outcomes
from siaran.logging import configure_logging
from siaran.metrics import count_messages, serve_metrics
from siaran.settings import Settings, get_settings
from siaran.temporal import connect
from worker.connections import Connections
from worker.inbox import Inbox
from worker.lease import LeaseLost, end_host, keep_lease, renew_lease
from worker.queues import DeviceQueues

log = structlog.get_logger()

DRAIN_SECONDS = 95.0
"""How long a host that is told to stop waits for sends under way: the longest send, and a little."""


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
        self._sessions = sessions
        self._transport = transport
        self._clock = clock
        self._claims = GroupCommit[ClaimRequest, Claim | None](self._claim, indivisible=(*OUTAGES, FencedError))
        self._records = GroupCommit[Record, None](self._record, retry_seconds=0.5)
        transmitter = Transmitter(
            transport=transport,
            sessions=sessions,
            record=self._records.submit,
            clock=clock,
            secret=secret_of(settings),
            receipt_wait=timedelta(seconds=settings.receipt_wait_seconds),
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
        self._connections = Connections(
            host_id,
            transport=transport,
            sessions=sessions,
            client=client,
            clock=clock,
            changed=self._note_connection,
            lost=self._queues.lost,
            settle=self._sends.settle,
            inbox=Inbox(sessions=sessions, client=client, redis=redis, clock=clock),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Hold the devices until told to stop, then drain; raises `LeaseLost` when somebody else has ended this host."""
        await renew_lease(self._sessions, self.host_id)
        await self._transport.open()
        work = [
            keep_lease(self._sessions, self.host_id),
            self._connections.reconcile(),
            self._connections.follow_events(),
            self._connections.note_seen(),
            self._queues.reconcile(),
            self._queues.follow_notices(),
        ]
        tasks = [asyncio.create_task(coroutine) for coroutine in work]
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()
        finally:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drain(), DRAIN_SECONDS)
            for task in [*tasks, stopped]:
                task.cancel()
            await asyncio.gather(*tasks, stopped, return_exceptions=True)
            await self._transport.close()

    async def _drain(self) -> None:
        """Begin nothing more, bring to an end and record what is under way."""
        await asyncio.gather(self._sends.drain(), self._queues.close())
        await asyncio.gather(self._claims.close(), self._records.close(), self._connections.close())

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
            await record_outcomes(session, records)
        for status, count in Counter(record.status for record in records).items():
            count_messages(status.value, count)
        return [None] * len(records)


def open_transport(settings: Settings, clock: Clock) -> Transport:
    """The transport of this process; raises `ValueError` when the simulated network is not configured."""
    if settings.network_url is None:
        raise ValueError("no simulated network: set SIARAN_NETWORK_URL or start the embedded stack with `siaran up`")
    return SimulatedTransport(settings.network_url.get_secret_value(), clock=clock)


async def run_host(host_id: int, settings: Settings, clock: Clock = system_clock) -> None:
    """Run a host until SIGTERM or SIGINT, or until its lease is lost."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    # Thousands of workers share this process: none of them sends heartbeats of its own to the server.
    runtime = Runtime(telemetry=TelemetryConfig(), worker_heartbeat_interval=None)
    async with open_database(settings, pool_size=6) as sessions, open_redis(settings) as redis:
        client = await connect(settings, runtime=runtime)
        transport = open_transport(settings, clock)
        host = Host(
            host_id,
            settings=settings,
            sessions=sessions,
            redis=redis,
            client=client,
            transport=transport,
            clock=clock,
        )
        log.info("host_started", host=host_id)
        try:
            await host.run(stop)
        except LeaseLost:
            log.warning("lease_lost", host=host_id)
            raise SystemExit(3) from None
        await end_host(sessions, host_id)
        log.info("host_stopped", host=host_id)


def main(host_id: Annotated[int, typer.Option(help="The id of this host's row, made by the fleet.")]) -> None:
    """Hold the connections of the devices that the fleet gives to this host."""
    settings = get_settings()
    configure_logging(debug=settings.debug)
    serve_metrics(settings, "host", str(host_id))
    uvloop.run(run_host(host_id, settings))


if __name__ == "__main__":
    typer.run(main)
