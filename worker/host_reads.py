"""What a host reads from WhatsApp for others: number checks, contacts, pictures, on a queue of the host's own."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from redis.asyncio import Redis
from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import PollerBehaviorSimpleMaximum, Worker

from siaran.contracts import HostRead, host_queue
from siaran.gateway.interface import OutcomeUnknown, Transport, TransportError
from siaran.host_reads import KEPT_FOR, READ_TIME, answer_key, question_key

log = structlog.get_logger()

READS_AT_ONCE = 32
PAUSE_SECONDS = 5.0
READS_OF_A_DEVICE = 3
"""A device that does not answer keeps as many threads of its host busy; further questions to it are refused."""


class HostReads:
    """The read activities of one host. None is repeated by itself: whoever asks decides."""

    def __init__(self, host_id: int, *, client: Client, transport: Transport, redis: Redis) -> None:
        self._host_id = host_id
        self._client = client
        self._transport = transport
        self._redis = redis
        self._worker: Worker | None = None
        self._run: asyncio.Task[None] | None = None
        self._is_closing = False
        self._under_way: defaultdict[UUID, set[asyncio.Task[Any]]] = defaultdict(set)

    async def run(self) -> None:
        """Answer what is asked on the queue of this host until closed; begins anew after whatever ends that early."""
        while not self._is_closing:
            self._worker = self._make_worker()
            self._run = asyncio.create_task(self._worker.run(), name=f"reads-{self._host_id}")
            await asyncio.wait({self._run})
            error = None if self._run.cancelled() else self._run.exception()
            if error is not None:
                log.warning("reads_interrupted", host=self._host_id, error=type(error).__name__)
                await asyncio.sleep(PAUSE_SECONDS)

    async def close(self) -> None:
        """Take no more questions; cancelling a worker in the middle of its start or end might never end."""
        self._is_closing = True
        if self._worker is not None and self._run is not None and not self._run.done():
            await self._worker.shutdown()
            await asyncio.wait({self._run})

    def _make_worker(self) -> Worker:
        return Worker(
            self._client,
            task_queue=host_queue(self._host_id),
            activities=[self.check_numbers, self.read_contacts, self.picture_url],
            max_concurrent_activities=READS_AT_ONCE,
            activity_task_poller_behavior=PollerBehaviorSimpleMaximum(maximum=1),
            graceful_shutdown_timeout=timedelta(seconds=1),
            disable_eager_activity_execution=True,
        )

    @activity.defn(name="check_numbers")
    async def check_numbers(self, read: HostRead) -> int:
        """Which phones have an account; returns how many were answered for."""
        found = await self._answer(read, lambda phones: self._transport.is_on_whatsapp(read.device_id, phones))
        return len(found)

    @activity.defn(name="read_contacts")
    async def read_contacts(self, read: HostRead) -> int:
        """The names of the account's contacts; returns how many there are."""
        return len(await self._answer(read, lambda _: self._transport.contact_names(read.device_id)))

    @activity.defn(name="picture_url")
    async def picture_url(self, read: HostRead) -> int:
        """Where a chat's picture is; returns 1 if there is one."""
        url = await self._answer(read, lambda chat: self._transport.picture_url(read.device_id, chat))
        return int(url is not None)

    async def _answer(self, read: HostRead, ask: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        question = await self._redis.get(question_key(read.token))
        if question is None:
            raise ApplicationError("the question is gone", type="Gone", non_retryable=True)
        found = await self._within(read.device_id, ask(json.loads(question)))
        await self._redis.set(answer_key(read.token), json.dumps(found), ex=KEPT_FOR)
        return found

    async def _within(self, device_id: UUID, work: Coroutine[Any, Any, Any]) -> Any:
        """The outcome of a call, if it comes in time; a call cannot be taken back, so it counts until it ends by itself."""
        under_way = self._under_way[device_id]
        if len(under_way) >= READS_OF_A_DEVICE:
            work.close()
            raise ApplicationError("the device is busy", type="Busy", non_retryable=True)
        task = asyncio.create_task(work)
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        done, _ = await asyncio.wait({task}, timeout=READ_TIME.total_seconds())
        if not done:
            task.add_done_callback(_retrieve)
            raise ApplicationError("WhatsApp does not answer", type="Silent", non_retryable=True)
        try:
            return task.result()
        except OutcomeUnknown as error:
            raise ApplicationError("WhatsApp does not answer", type="Silent", non_retryable=True) from error
        except TransportError as error:
            raise ApplicationError(error.code, type=type(error).__name__, non_retryable=True) from error


def _retrieve(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
