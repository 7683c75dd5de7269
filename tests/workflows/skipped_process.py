"""A worker or a host as a process of its own, on the clock of a test: `… worker OFFSET_FILE` or `… host OFFSET_FILE ID`."""

import asyncio
import sys
from pathlib import Path

from activities.resources import Resources
from siaran.cache import open_redis
from siaran.db import open_database
from siaran.settings import Settings, get_settings
from siaran.temporal import connect
from tests.workflows.skipped_time import OffsetClock, Skipper
from worker.__main__ import work
from worker.host import run_host


async def run_worker(settings: Settings, clock: OffsetClock) -> None:
    """Poll all queues of a worker until killed."""
    async with open_database(settings) as sessions, open_redis(settings) as redis:
        client = Skipper(await connect(settings), clock).client
        async with work(Resources(settings, sessions, redis, client, clock)):
            await asyncio.Event().wait()


def main(kind: str, offset: str, *host: str) -> None:
    """Run until killed."""
    settings, clock = get_settings(), OffsetClock(Path(offset))
    asyncio.run(run_worker(settings, clock) if kind == "worker" else run_host(int(host[0]), settings, clock))


if __name__ == "__main__":
    main(*sys.argv[1:])
