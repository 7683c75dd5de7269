"""Group commit: what many devices of a process want written is written together; each goes on once its part is committed."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError

log = structlog.get_logger()

Item = TypeVar("Item")
Result = TypeVar("Result")

OUTAGES = (OperationalError, InterfaceError, OSError, TimeoutError)
"""Errors that say nothing about the items: the whole batch fails, or is tried again, together."""

BUSY_ITEMS = 6
BUSY_INTERVAL_SECONDS = 0.1
"""A batch of that many items makes the next one collect for that long."""

Flush = Callable[[Sequence[Item]], Awaitable[Sequence[Result]]]
"""Writes items in one transaction and returns one result for each, in their order."""


class GroupCommit(Generic[Item, Result]):
    """Collects items for a few tens of milliseconds, at most `most` at a time, and hands them to `flush`.

    Where many come, it collects for longer: a transaction costs about the same for three items as for thirty.
    A flush that fails is split in halves, so that one bad item does not fail its neighbours, unless the error is one of
    `indivisible`, which says nothing about single items. With
    `retry_seconds` an item that fails even alone is tried again until it succeeds (records must not be dropped); without, its
    caller gets the exception (a claim can be asked for again).
    """

    def __init__(
        self,
        flush: Flush[Item, Result],
        *,
        interval_seconds: float = 0.03,
        busy_interval_seconds: float = BUSY_INTERVAL_SECONDS,
        most: int = 500,
        retry_seconds: float | None = None,
        indivisible: tuple[type[Exception], ...] = OUTAGES,
    ) -> None:
        self._flush = flush
        self._interval = interval_seconds
        self._busy_interval = max(busy_interval_seconds, interval_seconds)
        self._is_busy = False
        self._most = most
        self._retry = retry_seconds
        self._indivisible = indivisible
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._open: set[asyncio.Future[Result]] = set()
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Result:
        """Hand in an item and wait until it is committed; its result is that of `flush`."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="group-commit")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._open.add(future)
        future.add_done_callback(self._open.discard)
        self._waiting.append((item, future))
        self._arrived.set()
        return await asyncio.shield(future)

    async def close(self) -> None:
        """Write what has been handed in, then stop; bound it with a time-out while PostgreSQL may be away.

        What is handed in meanwhile is written too, but not waited for.
        """
        await asyncio.gather(*self._open, return_exceptions=True)
        if self._task is not None and not self._open:
            task, self._task = self._task, None
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            await asyncio.sleep(self._busy_interval if self._is_busy else self._interval)
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            self._is_busy = len(batch) >= BUSY_ITEMS
            if not self._waiting:
                self._arrived.clear()
            if batch:
                await self._write(batch)

    async def _write(self, batch: list[tuple[Item, "asyncio.Future[Result]"]]) -> None:
        try:
            results = await self._flush([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 -- whatever a flush raises goes to the callers, or is retried
            await self._split(batch, error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)

    async def _split(self, batch: list[tuple[Item, "asyncio.Future[Result]"]], error: Exception) -> None:
        log.warning("group_commit_failed", items=len(batch), error=type(error).__name__)
        if len(batch) > 1 and not isinstance(error, self._indivisible):
            middle = len(batch) // 2
            await self._write(batch[:middle])
            await self._write(batch[middle:])
            return
        if self._retry is None:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        self._waiting = batch + self._waiting
        await asyncio.sleep(self._retry)
        self._arrived.set()
