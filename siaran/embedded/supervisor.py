"""Keeps named child processes running: starts them, brings back those that die, stops them in order."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from types import TracebackType
from typing import Self

import structlog

from siaran.clock import system_clock
from siaran.embedded.errors import ChildFailed
from siaran.processes import SystemUser, spawn

logger = structlog.get_logger(__name__)

FIRST_PAUSE = timedelta(seconds=0.2)
LAST_PAUSE = timedelta(seconds=10)
HEALTHY_AFTER = timedelta(seconds=30)
ABORT_WITHIN = timedelta(seconds=5)
LOG_BYTES = 20_000_000
LOG_CHECK_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """How one child process is started, known to be ready, and stopped.

    `stage` orders the stop: children of the highest stage stop first, those of one stage together. `abort_signal` is what the
    child gets when its parent dies, when a stop must be immediate, and when it has ignored `stop_signal`.
    """

    name: str
    title: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    stage: int = 0
    user: SystemUser | None = None
    cwd: Path | None = None
    prepare: Callable[[], Awaitable[None]] | None = None
    ready: Callable[[], Awaitable[bool]] | None = None
    ready_within: timedelta = timedelta(seconds=60)
    stop_signal: Signals = SIGTERM
    abort_signal: Signals = SIGKILL
    stop_within: timedelta = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class ChildState:
    """What can be seen of a child from outside; `pid` is None between a death and the next start."""

    name: str
    title: str
    pid: int | None
    restarts: int
    up_since_at: datetime | None
    exit_code: int | None


@dataclass(slots=True)
class _Slot:
    child: Child
    log_path: Path
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0
    up_since_at: datetime | None = None
    exit_code: int | None = None
    stopping: bool = False
    keeper: "asyncio.Task[None] | None" = field(default=None, repr=False)


class Supervisor:
    """Runs children and restarts those that die, after 0.2 s at first and up to 10 s when one keeps dying.

    Output goes to `<log_dir>/<name>.log`, of which the last 20 to 40 MB are kept. Belongs to the event loop it was entered in;
    children die with the thread of that loop (see `siaran.processes.spawn`).
    """

    def __init__(self, log_dir: Path, *, on_change: Callable[[], None] | None = None) -> None:
        self._log_dir = log_dir
        self._on_change = on_change or (lambda: None)
        self._slots: dict[str, _Slot] = {}
        self._trimmer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._trimmer = asyncio.create_task(self._trim_logs(), name="trim-logs")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop_all()
        if self._trimmer:
            self._trimmer.cancel()
            await asyncio.wait([self._trimmer])

    async def start(self, child: Child) -> None:
        """Start a child and wait until it is ready; raises `ChildFailed` with the end of its log if it does not get there."""
        if child.name in self._slots:
            raise ValueError(f"a child named {child.name} runs already")
        slot = _Slot(child, self._log_dir / f"{child.name}.log")
        self._slots[child.name] = slot
        try:
            await self._launch(slot)
            await self._wait_for_start(slot)
        except BaseException:
            await self._end(slot, at_once=True)
            del self._slots[child.name]
            raise
        slot.keeper = asyncio.create_task(self._keep(slot), name=f"keep-{child.name}")

    async def stop(self, name: str, *, at_once: bool = False) -> None:
        """Stop one child and forget it."""
        slot = self._slots[name]
        await self._end(slot, at_once=at_once)
        self._slots.pop(name, None)
        self._on_change()

    async def stop_all(self, *, at_once: bool = False) -> None:
        """Stop every child, the highest stage first; a second call with `at_once` hastens one that is under way."""
        for stage in sorted({slot.child.stage for slot in self._slots.values()}, reverse=True):
            slots = [slot for slot in self._slots.values() if slot.child.stage == stage]
            await asyncio.gather(*(self._end(slot, at_once=at_once) for slot in slots))
            for slot in slots:
                self._slots.pop(slot.child.name, None)
        self._on_change()

    def pid(self, name: str) -> int | None:
        """The process id of a child, None while it is down; raises `KeyError` for an unknown name."""
        process = self._slots[name].process
        return process.pid if process and process.returncode is None else None

    def states(self) -> list[ChildState]:
        """The state of every child, in the order in which they were started."""
        return [
            ChildState(
                name=name,
                title=slot.child.title,
                pid=self.pid(name),
                restarts=slot.restarts,
                up_since_at=slot.up_since_at,
                exit_code=slot.exit_code,
            )
            for name, slot in self._slots.items()
        ]

    async def wait_until_ready(self, name: str, *, within: timedelta = timedelta(seconds=60)) -> None:
        """Return when the child runs and says that it is ready; raises `TimeoutError` after `within`."""
        child = self._slots[name].child
        async with asyncio.timeout(within.total_seconds()):
            while self.pid(name) is None or (child.ready and not await child.ready()):  # noqa: ASYNC110 - a server is asked
                await asyncio.sleep(0.02)

    async def _launch(self, slot: _Slot) -> None:
        child = slot.child
        if child.prepare:
            await child.prepare()
        slot.process = await spawn(
            child.command,
            environment=child.environment,
            log_path=slot.log_path,
            death_signal=child.abort_signal,
            user=child.user,
            cwd=child.cwd,
        )
        slot.up_since_at = system_clock()
        self._on_change()

    async def _wait_for_start(self, slot: _Slot) -> None:
        child, process = slot.child, slot.process
        deadline = time.monotonic() + child.ready_within.total_seconds()
        while child.ready and not await child.ready():
            if process is None or process.returncode is not None:
                code = process.returncode if process else None
                raise ChildFailed(child.title, f"it ended with code {code}", slot.log_path, _tail(slot.log_path))
            if time.monotonic() > deadline:
                reason = f"no answer within {child.ready_within.total_seconds():.0f} s"
                raise ChildFailed(child.title, reason, slot.log_path, _tail(slot.log_path))
            await asyncio.sleep(0.02)

    async def _keep(self, slot: _Slot) -> None:
        pause = FIRST_PAUSE
        started = time.monotonic()
        while True:
            if slot.process is not None:
                slot.exit_code = await slot.process.wait()
                slot.process, slot.up_since_at = None, None
            if slot.stopping:
                return
            if time.monotonic() - started >= HEALTHY_AFTER.total_seconds():
                pause = FIRST_PAUSE
            logger.warning("child_died", child=slot.child.name, exit_code=slot.exit_code, restart_in=pause.total_seconds())
            self._on_change()
            await asyncio.sleep(pause.total_seconds())
            pause = min(pause * 2, LAST_PAUSE)
            slot.restarts += 1
            started = time.monotonic()
            try:
                await self._launch(slot)
            except Exception:  # whatever it was, the next attempt comes after a longer pause
                logger.exception("child_not_started", child=slot.child.name)

    async def _end(self, slot: _Slot, *, at_once: bool) -> None:
        slot.stopping = True
        process, child = slot.process, slot.child
        if process is None or process.returncode is not None:
            if slot.keeper:  # between a death and a restart: there must be no restart
                slot.keeper.cancel()
        else:
            steps = [(child.abort_signal, ABORT_WITHIN), (SIGKILL, ABORT_WITHIN)]
            for number, patience in steps if at_once else [(child.stop_signal, child.stop_within), *steps]:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), patience.total_seconds())
                    break
                logger.warning("child_ignores_signal", child=child.name, signal=number.name)
        if slot.keeper:
            await asyncio.wait([slot.keeper])

    async def _trim_logs(self) -> None:
        while True:
            await asyncio.sleep(LOG_CHECK_SECONDS)
            for path in self._log_dir.glob("*.log"):  # the children's children write here as well
                await asyncio.to_thread(_trim, path)


def _trim(path: Path) -> None:
    """Move a large log aside. The child keeps the file open for appending, so it is copied and emptied, not renamed."""
    if path.exists() and path.stat().st_size > LOG_BYTES:
        shutil.copyfile(path, path.with_suffix(".log.1"))
        with path.open("r+b") as file:
            file.truncate(0)


def _tail(path: Path, lines: int = 15) -> str:
    content = path.read_bytes()[-8000:].decode(errors="replace") if path.exists() else ""
    return "\n".join(content.splitlines()[-lines:])
