"""The supervisor: brings back what dies, stops in order, and leaves nothing running."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from siaran.embedded import supervisor as supervisor_module
from siaran.embedded.errors import ChildFailed
from siaran.embedded.supervisor import Child, Supervisor
from tests.waiting import eventually

SLEEP = "import time; time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('started', 'w').close(); {SLEEP}"


async def never() -> bool:
    return False


def exists(path: Path) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return await asyncio.to_thread(path.exists)

    return check


def child(name: str, code: str, **options: object) -> Child:
    fields: dict[str, object] = {
        "name": name,
        "title": name,
        "command": (sys.executable, "-I", "-u", "-c", code),
        "environment": {},
    }
    return Child(**(fields | options))  # type: ignore[arg-type]  # a test names only what it is about


@pytest.fixture
def others() -> set[psutil.Process]:
    """The children that this process has besides those of the test: the session's servers."""
    return set(psutil.Process().children())


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[Supervisor]:
    async with Supervisor(tmp_path) as running:
        yield running


async def wait_for_restarts(supervisor: Supervisor, count: int) -> None:
    await eventually(lambda: supervisor.states()[0].restarts >= count and supervisor.states()[0].pid is not None)


async def test_a_killed_child_is_started_again(supervisor: Supervisor) -> None:
    await supervisor.start(child("one", SLEEP))
    before = supervisor.states()[0]
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    await wait_for_restarts(supervisor, 1)
    after = supervisor.states()[0]
    assert after.pid not in {None, before.pid}
    assert (after.restarts, after.exit_code) == (1, -signal.SIGKILL)
    assert before.up_since_at is not None
    assert after.up_since_at is not None
    assert after.up_since_at > before.up_since_at


async def test_a_child_that_keeps_dying_is_restarted_after_ever_longer_pauses(supervisor: Supervisor, tmp_path: Path) -> None:
    code = f"import time; open({str(tmp_path / 'starts')!r}, 'a').write(f'{{time.time()}}\\n')"
    await supervisor.start(child("dies", code))
    await wait_for_restarts(supervisor, 3)
    starts = [float(line) for line in (tmp_path / "starts").read_text().split()]
    pauses = [later - earlier for earlier, later in pairwise(starts)]
    assert pauses[0] >= 0.2
    assert pauses[1] >= 0.4
    assert pauses[0] < pauses[1]


async def test_a_child_that_ends_before_it_is_ready_is_reported_with_its_last_words(supervisor: Supervisor) -> None:
    with pytest.raises(ChildFailed, match=r"ended with code 3(.|\n)*no such luck"):
        await supervisor.start(child("fails", "print('no such luck'); raise SystemExit(3)", ready=never))
    assert supervisor.states() == []


async def test_a_child_that_never_gets_ready_is_stopped(supervisor: Supervisor, others: set[psutil.Process]) -> None:
    with pytest.raises(ChildFailed, match="no answer within 0 s"):
        await supervisor.start(child("slow", SLEEP, ready=never, ready_within=timedelta(seconds=0.2)))
    assert set(psutil.Process().children()) <= others


async def test_a_higher_stage_has_stopped_before_a_lower_one_is_told(
    supervisor: Supervisor, others: set[psutil.Process], tmp_path: Path
) -> None:
    log = tmp_path / "order"
    code = """
import signal, sys, time
def end(*_):
    time.sleep(0.2)
    open(sys.argv[1], "a").write(sys.argv[2] + " ")
    sys.exit()
signal.signal(signal.SIGTERM, end)
open(sys.argv[1] + sys.argv[2], "w").close()
time.sleep(600)
"""
    for name, stage in (("server", 0), ("worker", 1), ("fleet", 2)):
        command = (sys.executable, "-I", "-c", code, str(log), name)
        await supervisor.start(child(name, "", command=command, stage=stage, ready=exists(tmp_path / f"order{name}")))
    await supervisor.stop_all()
    assert log.read_text().split() == ["fleet", "worker", "server"]
    assert set(psutil.Process().children()) <= others


async def test_a_child_that_ignores_the_signal_is_killed_after_its_time(
    supervisor: Supervisor, others: set[psutil.Process], tmp_path: Path
) -> None:
    await supervisor.start(
        child("stubborn", STUBBORN, cwd=tmp_path, ready=exists(tmp_path / "started"), stop_within=timedelta(seconds=0.3))
    )
    async with asyncio.timeout(3):
        await supervisor.stop("stubborn")
    assert set(psutil.Process().children()) <= others


async def test_a_second_stop_at_once_does_not_wait_for_the_first(supervisor: Supervisor, tmp_path: Path) -> None:
    await supervisor.start(child("stubborn", STUBBORN, cwd=tmp_path, ready=exists(tmp_path / "started")))
    gentle = asyncio.create_task(supervisor.stop_all())
    await asyncio.sleep(0.1)
    async with asyncio.timeout(3):
        await supervisor.stop_all(at_once=True)
        await gentle


async def test_a_stop_during_the_pause_before_a_restart_prevents_the_restart(
    supervisor: Supervisor, others: set[psutil.Process]
) -> None:
    await supervisor.start(child("dies", "raise SystemExit(1)"))
    await wait_for_restarts(supervisor, 1)
    await asyncio.sleep(0.1)
    await supervisor.stop_all()
    await asyncio.sleep(0.6)
    assert set(psutil.Process().children()) <= others


async def test_ctrl_c_in_the_terminal_reaches_no_child_directly(supervisor: Supervisor) -> None:
    await supervisor.start(child("one", SLEEP))
    pid = supervisor.pid("one")
    assert pid is not None
    assert os.getsid(pid) != os.getsid(0)


async def test_a_large_log_is_moved_aside_while_its_child_writes_on(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "LOG_BYTES", 10_000)
    code = "import time\nfor n in range(100000):\n    print('line', n)\n    time.sleep(0.0001)"
    await supervisor.start(child("talks", code))
    await eventually(lambda: (tmp_path / "talks.log").stat().st_size >= 10_000)
    supervisor_module._trim(tmp_path / "talks.log")
    assert (tmp_path / "talks.log.1").stat().st_size >= 10_000
    await asyncio.sleep(0.1)
    assert b"\0" not in (tmp_path / "talks.log").read_bytes()
    assert (tmp_path / "talks.log").stat().st_size < 10_000
