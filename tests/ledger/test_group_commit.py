"""Group commit: what is handed in together is written together, and nobody waits for another's bad item."""

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy.exc import OperationalError

from siaran.ledger.group_commit import GroupCommit


class Store:
    """Something to flush to: refuses the items in `bad`, and everything for the first `outages` flushes."""

    def __init__(self, *, bad: set[int] | None = None, outages: int = 0) -> None:
        self.bad = bad or set()
        self.outages = outages
        self.batches: list[list[int]] = []

    async def flush(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        if self.outages:
            self.outages -= 1
            raise OperationalError("COMMIT", None, Exception("server closed the connection"))
        if self.bad & set(items):
            raise ValueError("bad item")
        return [item * 10 for item in items]

    @property
    def written(self) -> list[int]:
        return [item for batch in self.batches if not self.bad & set(batch) for item in batch]


async def test_items_of_a_moment_are_written_in_one_batch_and_each_gets_its_own_result() -> None:
    store = Store()
    group = GroupCommit[int, int](store.flush, interval_seconds=0.01)

    results = await asyncio.gather(*(group.submit(item) for item in range(20)))

    assert results == [item * 10 for item in range(20)]
    assert store.batches == [list(range(20))]
    await group.close()


async def test_a_batch_is_never_larger_than_allowed() -> None:
    store = Store()
    group = GroupCommit[int, int](store.flush, interval_seconds=0.01, most=8)

    await asyncio.gather(*(group.submit(item) for item in range(20)))

    assert [len(batch) for batch in store.batches] == [8, 8, 4]
    await group.close()


async def test_one_bad_item_does_not_fail_its_neighbours() -> None:
    store = Store(bad={5})
    group = GroupCommit[int, int](store.flush, interval_seconds=0.01)

    results = await asyncio.gather(*(group.submit(item) for item in range(8)), return_exceptions=True)

    assert [result for result in results if not isinstance(result, ValueError)] == [0, 10, 20, 30, 40, 60, 70]
    assert isinstance(results[5], ValueError)
    assert sorted(store.written) == [0, 1, 2, 3, 4, 6, 7]
    await group.close()


async def test_without_retry_an_outage_is_everyones_error() -> None:
    store = Store(outages=1)
    group = GroupCommit[int, int](store.flush, interval_seconds=0.01)

    results = await asyncio.gather(*(group.submit(item) for item in range(3)), return_exceptions=True)

    assert all(isinstance(result, OperationalError) for result in results)
    assert store.batches == [[0, 1, 2]]
    assert await group.submit(4) == 40
    await group.close()


async def test_with_retry_an_outage_is_waited_out_and_nothing_is_lost() -> None:
    store = Store(outages=3)
    group = GroupCommit[int, int](store.flush, interval_seconds=0.01, retry_seconds=0.01)

    first = asyncio.gather(*(group.submit(item) for item in range(3)))
    await asyncio.sleep(0.03)
    later = asyncio.create_task(group.submit(3))

    assert await first == [0, 10, 20]
    assert await later == 30
    assert store.outages == 0
    await group.close()


async def test_with_retry_one_bad_item_waits_while_the_others_go_on() -> None:
    store = Store(bad={1})
    group = GroupCommit[int, int](store.flush, interval_seconds=0.01, retry_seconds=0.01)
    bad = asyncio.create_task(group.submit(1))

    assert await asyncio.gather(*(group.submit(item) for item in (0, 2, 3))) == [0, 20, 30]
    assert not bad.done()
    assert await group.submit(4) == 40

    store.bad.clear()
    assert await bad == 10
    await group.close()


async def test_errors_that_say_nothing_about_single_items_are_not_split() -> None:
    class Fenced(Exception):
        pass

    batches = []

    async def flush(items: Sequence[int]) -> list[int]:
        batches.append(list(items))
        raise Fenced

    group = GroupCommit[int, int](flush, interval_seconds=0.01, indivisible=(Fenced,))

    results = await asyncio.gather(*(group.submit(item) for item in range(4)), return_exceptions=True)

    assert all(isinstance(result, Fenced) for result in results)
    assert batches == [[0, 1, 2, 3]]
    await group.close()


async def test_closing_writes_what_has_been_handed_in() -> None:
    store = Store()
    group = GroupCommit[int, int](store.flush, interval_seconds=0.05)
    tasks = [asyncio.create_task(group.submit(item)) for item in range(3)]
    await asyncio.sleep(0)

    await group.close()

    assert store.batches == [[0, 1, 2]]
    assert await asyncio.gather(*tasks) == [0, 10, 20]


async def test_what_is_handed_in_while_a_group_closes_is_written_too() -> None:
    written: list[int] = []

    async def flush(items: Sequence[int]) -> list[int]:
        await asyncio.sleep(0.1)
        written.extend(items)
        return list(items)

    group = GroupCommit[int, int](flush, interval_seconds=0.01)
    before = asyncio.create_task(group.submit(1))
    await asyncio.sleep(0.05)
    closing = asyncio.create_task(group.close())
    await asyncio.sleep(0)
    during = asyncio.create_task(group.submit(2))

    await closing
    assert before.done()
    assert await asyncio.wait_for(during, 1) == 2
    await asyncio.wait_for(group.close(), 1)
    assert written == [1, 2]


async def test_closing_does_not_wait_for_a_stream_of_items_to_end() -> None:
    store = Store()
    group = GroupCommit[int, int](store.flush, interval_seconds=0.01)

    async def hand_in() -> list[int]:
        tasks = []
        for item in range(100):
            tasks.append(asyncio.create_task(group.submit(item)))
            await asyncio.sleep(0.005)
        return await asyncio.gather(*tasks)

    stream = asyncio.create_task(hand_in())
    await asyncio.sleep(0.02)
    await asyncio.wait_for(group.close(), 0.3)

    assert not stream.done()
    assert await asyncio.wait_for(stream, 3) == [item * 10 for item in range(100)]


async def test_an_item_is_written_though_nobody_waits_for_it_any_more() -> None:
    store = Store()
    group = GroupCommit[int, int](store.flush, interval_seconds=0.02)
    task = asyncio.create_task(group.submit(7))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await group.close()

    assert store.batches == [[7]]


async def test_a_closed_group_that_never_had_an_item_closes() -> None:
    await GroupCommit[int, int](Store().flush).close()
