"""Child processes that never outlive the process that started them."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

SHIM = Path(__file__).with_name("child.py")


@dataclass(frozen=True, slots=True)
class SystemUser:
    """The user and group of the operating system that a child switches to; only root may."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """A process recognised beyond the life of its pid: numbers are given out again, start times are not."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> "ProcessMark | None":
        """The mark of a living process, or None."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None

    def find(self) -> psutil.Process | None:
        """The process if it still lives, or None."""
        try:
            process = psutil.Process(self.pid)
            alive = process.create_time() == self.created and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if alive else None


async def spawn(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    log_path: Path,
    death_signal: signal.Signals = signal.SIGKILL,
    user: SystemUser | None = None,
    cwd: Path | None = None,
) -> asyncio.subprocess.Process:
    """Start `command` (its first part an absolute path) with exactly this environment, its output appended to `log_path`.

    On Linux the kernel sends the child `death_signal` when the thread that called this ends, so call it from the thread that
    lives as long as the process: the event loop's. The child has a session of its own, so that Ctrl-C in the terminal reaches
    it only through its parent.
    """
    uid, gid = (user.uid, user.gid) if user else (-1, -1)
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(SHIM), str(os.getpid()), str(int(death_signal)), str(uid), str(gid)),
            *command,
            env=dict(environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=cwd,
            start_new_session=True,
        )
    finally:
        os.close(log)


def end_processes(processes: Sequence[psutil.Process], *, within: float) -> None:
    """Wait up to `within` seconds for processes that are ending by themselves, then kill those that are left."""
    _, alive = psutil.wait_procs(list(processes), timeout=within)
    for process in alive:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=5)
