"""A host's task queues: one Temporal worker per device, polling only while the device is online and its lane runs."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from temporalio.client import Client
from temporalio.worker import PollerBehaviorSimpleMaximum, Worker

from siaran.clock import Clock
from siaran.contracts import device_queue
from siaran.db import SessionMaker
from siaran.lanes import NOTICES

log = structlog.get_logger()

RECONCILE_SECONDS = 5.0
KEEP_OPEN = timedelta(seconds=90)
"""How long a queue is polled after its lane has stopped: loading one again costs the server more."""

DRAIN = timedelta(seconds=85)
"""How long a closing worker waits for its activity."""

_RUNNING = text("SELECT device_id FROM lanes WHERE state = 'running'")


class DeviceQueues:
    """Opens and closes the per-device workers of one host; `lanes_running` is told how many lanes run on all servers."""

    def __init__(
        self,
        client: Client,
        *,
        send: Callable[..., Any],
        sessions: SessionMaker,
        redis: Redis,
        clock: Clock,
        lanes_running: Callable[[int], None],
    ) -> None:
        self._client = client
        self._send = send
        self._sessions = sessions
        self._redis = redis
        self._clock = clock
        self._lanes_running = lanes_running
        self._online: set[UUID] = set()
        self._wanted: dict[UUID, datetime] = {}
        self._workers: dict[UUID, Worker] = {}
        self._runs: dict[UUID, asyncio.Task[None]] = {}
        self._is_closing = False

    def changed(self, device_id: UUID, online: bool) -> None:
        """Note that a device went on- or offline; its queue follows at the next look."""
        if online:
            self._online.add(device_id)
            self._open_if_wanted(device_id)
        else:
            self._online.discard(device_id)

    def lost(self, device_id: UUID) -> None:
        """Note that a device is not this host's any more: its sends are another's to take, so its queue is polled no longer."""
        self._online.discard(device_id)
        self._stop_polling(device_id)

    async def reconcile(self) -> None:
        """Look for ever which lanes run: this finds what a lost notice did not tell."""
        while True:
            try:
                async with self._sessions() as session:
                    running = set((await session.execute(_RUNNING)).scalars())
                self._lanes_running(len(running))
                now = self._clock()
                self._wanted.update(dict.fromkeys(running & self._online, now))
                for device_id in running & self._online:
                    self._open_if_wanted(device_id)
                self._close_idle(now)
            except (SQLAlchemyError, OSError) as error:
                log.warning("lanes_not_read", error=type(error).__name__)
            await asyncio.sleep(RECONCILE_SECONDS)

    async def follow_notices(self) -> None:
        """Open a queue as soon as its lane is set running, for ever; without Redis, `reconcile` does it a little later."""
        while True:
            try:
                async with self._redis.pubsub() as channel:
                    await channel.subscribe(NOTICES)
                    async for message in channel.listen():
                        if message["type"] == "message":
                            device_id = UUID(message["data"])
                            self._wanted[device_id] = self._clock()
                            self._open_if_wanted(device_id)
            except (RedisError, OSError) as error:
                log.warning("notices_interrupted", error=type(error).__name__)
                await asyncio.sleep(1)

    async def close(self) -> None:
        """Stop polling everywhere; activities under way end by themselves."""
        self._is_closing = True
        await asyncio.gather(*(worker.shutdown() for worker in list(self._workers.values())), return_exceptions=True)
        await asyncio.gather(*self._runs.values(), return_exceptions=True)

    def _open_if_wanted(self, device_id: UUID) -> None:
        if self._is_closing or device_id in self._runs or device_id not in self._online or device_id not in self._wanted:
            return
        worker = Worker(
            self._client,
            task_queue=device_queue(device_id),
            activities=[self._send],
            max_concurrent_activities=1,
            activity_task_poller_behavior=PollerBehaviorSimpleMaximum(maximum=1),
            graceful_shutdown_timeout=DRAIN,
            # A task must never be handed over between the workers of one process behind the queue's back.
            disable_eager_activity_execution=True,
        )
        self._workers[device_id] = worker
        task = asyncio.create_task(worker.run(), name=f"queue-{device_id}")
        self._runs[device_id] = task
        task.add_done_callback(lambda done: self._forget(device_id, done))

    def _forget(self, device_id: UUID, task: "asyncio.Task[None]") -> None:
        self._runs.pop(device_id, None)
        self._workers.pop(device_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("queue_failed", device=str(device_id), error=type(error).__name__)
        else:  # the device may have come back while the last activity was brought to its end
            self._open_if_wanted(device_id)

    def _close_idle(self, now: datetime) -> None:
        for device_id in list(self._workers):
            if now - self._wanted.get(device_id, now) > KEEP_OPEN:
                self._stop_polling(device_id)

    def _stop_polling(self, device_id: UUID) -> None:
        """Poll no more; an activity under way ends by itself, and only then may the queue be opened again."""
        self._wanted.pop(device_id, None)
        if (worker := self._workers.pop(device_id, None)) is not None:
            asyncio.create_task(worker.shutdown(), name=f"close-{device_id}")  # noqa: RUF006 -- `_runs` holds its run
