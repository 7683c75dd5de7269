"""Fixtures of the fault tests: one running product for all of them, and a stage on it for each."""

from collections.abc import AsyncIterator, Generator
from pathlib import Path

import pytest

from siaran.embedded.app import fleet_child, start_app
from siaran.embedded.options import StackOptions
from siaran.embedded.stack import EmbeddedStack
from siaran.gateway.simulated_config import NetworkConfig
from siaran.settings import Settings
from tests.conftest import stack_folder
from tests.faults.stage import Stage, Ways, open_ways

SERVER = "faults"
ENVIRONMENT = {
    "SIARAN_SERVER": SERVER,
    "SIARAN_SIMULATED_HOST_CAPACITY": "6",
    "SIARAN_FAILOVER_AFTER_SECONDS": "3",
    "SIARAN_RECEIPT_WAIT_SECONDS": "2",
}
NETWORK = NetworkConfig(latency_ms=(20, 60), delivered_seconds=(0.1, 0.5), read_rate=0)

_LOGS = pytest.StashKey[Path]()
LOGS = ("api.log", "worker.log", "fleet.log", "hosts.log")
LOG_CHARACTERS = 4000


@pytest.fixture(scope="session")
async def product(request: pytest.FixtureRequest) -> AsyncIterator[EmbeddedStack]:
    """Everything runs: the servers, the API, the worker and the fleet, with no user but the first administrator."""
    options = StackOptions(postgres_fsync=False).with_free_ports()
    with stack_folder() as folder:
        request.config.stash[_LOGS] = folder / "logs"
        async with EmbeddedStack(Settings(data_dir=folder, server=SERVER), options, app_ports=("api_port",)) as stack:
            await start_app(stack, ENVIRONMENT)
            yield stack


@pytest.fixture(scope="session")
async def ways(product: EmbeddedStack) -> AsyncIterator[Ways]:
    """The ways into the product."""
    async with open_ways(product.settings) as ways:
        yield ways


@pytest.fixture
async def stage(ways: Ways) -> AsyncIterator[Stage]:
    """A stage for one test, on a network without faults of its own."""
    await ways.network.configure(**NETWORK.model_dump())
    stage = Stage(ways)
    await stage.open()
    yield stage
    await stage.close()


@pytest.fixture(scope="module")
async def slices(product: EmbeddedStack) -> AsyncIterator[None]:
    """Lanes send in slices of a minute, as they do when many are awake, not one message at a time."""
    await restart_fleet(product, SEND_WINDOW="60")
    yield
    await restart_fleet(product)


async def restart_fleet(product: EmbeddedStack, **variables: str) -> None:
    """Replace the fleet and its hosts by others with these variables."""
    await product.supervisor.stop("fleet")
    await product.supervisor.start(fleet_child(product, {**ENVIRONMENT, **variables}))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the processes have logged last; the logs are gone with their folder."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        own = item.funcargs.get("data_dir")
        folder = own / "logs" if isinstance(own, Path) else item.config.stash.get(_LOGS, Path())
        for path in [folder / name for name in LOGS if (folder / name).exists()]:
            report.sections.append((path.name, path.read_text(errors="replace")[-LOG_CHARACTERS:]))
    return report
