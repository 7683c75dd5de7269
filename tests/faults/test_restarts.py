"""`siaran up` stopped and killed in the middle of a campaign, and started again on the same data."""

import asyncio
import os
import signal
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from siaran.embedded.options import PORTS
from siaran.embedded.runtime import Runtime, read_runtime
from siaran.settings import Settings
from tests.faults.conftest import ENVIRONMENT, NETWORK
from tests.faults.stage import PATIENCE_SECONDS, Stage, open_ways

pytestmark = pytest.mark.faults

SIARAN = str(Path(sysconfig.get_path("scripts")) / "siaran")
DEVICES = 6


async def test_a_campaign_goes_on_by_itself_after_a_stop_and_after_everything_was_killed(data_dir: Path) -> None:
    async with siaran_up(data_dir, signal.SIGTERM) as runtime, open_ways(settings_of(runtime)) as ways:
        await ways.network.configure(**NETWORK.model_dump())
        stage = Stage(ways)
        user = await stage.marketer(DEVICES)
        campaign = await user.send(leads=DEVICES * 12, gap=(0, 1))
        await stage.transmitted(DEVICES * 2)
    async with siaran_up(data_dir, signal.SIGKILL) as runtime, open_ways(settings_of(runtime)) as stage.ways:
        await stage.transmitted(DEVICES * 2)
        assert await stage.pending(campaign) > 0
    async with siaran_up(data_dir, signal.SIGKILL) as runtime, open_ways(settings_of(runtime)) as stage.ways:
        await user.hurry(campaign)
        await stage.until(lambda: stage.are_online(user.devices))
        assert await stage.ended(campaign) == ["sent"]
        assert (await user.ask("GET", f"/api/campaigns/{campaign}"))["counts"]["pending"] == 0
        await stage.check()


@asynccontextmanager
async def siaran_up(data_dir: Path, end: signal.Signals) -> AsyncIterator[Runtime]:
    """Run `siaran up` on a folder until its API answers; end it, and everything that it started, by a signal."""
    free = {variable: "0" for _, variable in PORTS.values()}
    environment = {**os.environ, **free, **ENVIRONMENT, "SIARAN_POSTGRES_FSYNC": "off"}
    with (data_dir / "up.log").open("ab") as log:
        up = await asyncio.create_subprocess_exec(
            SIARAN, "up", "--data-dir", str(data_dir), env=environment, stdout=log, stderr=log
        )
    try:
        yield await wait_until_up(up, data_dir)
    finally:
        if up.returncode is None:
            started = psutil.Process(up.pid).children(recursive=True)
            up.send_signal(end)
            assert await asyncio.wait_for(up.wait(), PATIENCE_SECONDS) == (0 if end is signal.SIGTERM else -end)
            _, alive = await asyncio.to_thread(psutil.wait_procs, started, 30)
            assert not alive


async def wait_until_up(up: asyncio.subprocess.Process, data_dir: Path) -> Runtime:
    async with asyncio.timeout(PATIENCE_SECONDS), httpx.AsyncClient(trust_env=False) as http:
        while up.returncode is None:
            runtime = read_runtime(data_dir)
            try:
                if runtime and "DB_URI" in runtime.environment:
                    await http.get(f"http://127.0.0.1:{runtime.ports['api']}/health")
                    return runtime
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
    raise AssertionError(f"siaran up has ended by itself: {(data_dir / 'up.log').read_text()}")


def settings_of(runtime: Runtime) -> Settings:
    """The settings that a process on the running stack would read from its environment."""
    return Settings.model_validate({**runtime.environment, "APP_PORT": runtime.ports["api"]})
