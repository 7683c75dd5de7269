"""The budget of a host: what it may use of memory and descriptors before it is renewed, since the library leaks both."""

import asyncio
from dataclasses import dataclass

import psutil
import structlog

from worker.renewal import Renewal

log = structlog.get_logger()

MEGABYTE = 1_000_000
LOOK_SECONDS = 15.0
LEAST_AGE_SECONDS = 600.0
"""A host that needs more than its budget from the start is not renewed all the time."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one process; `memory_mb` is resident memory in millions of bytes."""

    memory_mb: int
    descriptors: int

    def excess(self, process: psutil.Process) -> str | None:
        """What a process uses too much of, in words; None while it keeps within both limits."""
        if (used_mb := round(process.memory_info().rss / MEGABYTE)) > self.memory_mb:
            return f"memory: {used_mb} of {self.memory_mb} MB"
        if (used := process.num_fds()) > self.descriptors:
            return f"descriptors: {used} of {self.descriptors}"
        return None


async def watch_budget(budget: Budget, renewal: Renewal) -> None:
    """Ask for a renewal as soon as this process exceeds its budget; looks for ever."""
    process = psutil.Process()
    began = asyncio.get_running_loop().time()
    warned = False
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        excess = budget.excess(process)
        if excess is None:
            continue
        if asyncio.get_running_loop().time() - began >= LEAST_AGE_SECONDS:
            renewal.ask(excess)
        elif not warned:
            warned = True
            log.warning("budget_exceeded_early", excess=excess)
