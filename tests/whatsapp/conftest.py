"""One loopback WhatsApp server for all tests here, and numbers of its own for each; Siaran's processes for tests of hosts."""

import sys
from collections.abc import AsyncIterator, Generator, Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import structlog
from pydantic import SecretStr

from siaran.db import SessionMaker
from siaran.settings import Settings
from tests.cli.conftest import listening
from tests.servers import TestServers
from tests.whatsapp.linking_stage import LinkingStage, Person
from tests.whatsapp.stage import Product, Stage, logs_of, run_product
from tests.whatsapp_server.harness import RealClient, WhatsApp, run_whatsapp

_numbers: Iterator[int] = count(628110000001)
_contacts: Iterator[int] = count(628220000001)


@pytest.fixture(scope="session")
async def whatsapp_server() -> AsyncIterator[WhatsApp]:
    """The server of the whole session. Its folder is not one of pytest's, whose paths are too long for sockets."""
    with TemporaryDirectory(prefix="siaran-") as folder:
        async with run_whatsapp(Path(folder)) as server:
            yield server


@pytest.fixture
async def whatsapp(whatsapp_server: WhatsApp) -> AsyncIterator[WhatsApp]:
    """The server without a script; a test fails if the server did not understand something."""
    yield whatsapp_server
    await whatsapp_server.kill_clients()
    faults = await whatsapp_server.faults()
    await whatsapp_server.reset()
    assert faults == []


@pytest.fixture
def number() -> str:
    """The phone number of an account that nobody uses yet."""
    return str(next(_numbers))


@pytest.fixture
def contact() -> str:
    """The phone number of someone with WhatsApp."""
    return str(next(_contacts))


@pytest.fixture
async def client(whatsapp: WhatsApp, number: str) -> RealClient:
    """The real client, linked to `number` and online."""
    return await whatsapp.link_client(number)


_LOGS = pytest.StashKey[Path]()


@pytest.fixture(scope="session")
async def product(request: pytest.FixtureRequest, servers: TestServers, whatsapp_server: WhatsApp) -> AsyncIterator[Product]:
    """A worker and a fleet on a database and a namespace of their own, for all tests of hosts."""
    stack, name = servers.stack, await servers.create_database()
    with TemporaryDirectory(prefix="siaran-") as folder:
        request.config.stash[_LOGS] = Path(folder)
        settings = stack.settings.model_copy(
            update={
                "database_url": SecretStr(servers.database_url(name)),
                "temporal_namespace": await servers.create_namespace(),
                "data_dir": Path(folder),
            }
        )
        own = {
            "DB_URI": servers.database_url(name),
            "TEMPORAL_NAMESPACE": settings.temporal_namespace,
            "SIARAN_DATA_DIR": folder,
            "SIARAN_SERVER": "hosts",
            "SIARAN_RECEIPT_WAIT_SECONDS": "3",
            "SIARAN_CONNECT_PAUSE_SECONDS": "0.05",
        }
        async with run_product(settings, stack.environment | whatsapp_server.environment | own) as running:
            yield running
    await servers.drop_database(name)


@pytest.fixture
async def stage(product: Product, whatsapp: WhatsApp) -> AsyncIterator[Stage]:
    """A stage for one test."""
    stage = Stage(product, whatsapp)
    yield stage
    await stage.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the processes have logged last; the logs are gone with their folder."""
    report = yield
    if report.failed and isinstance(item, pytest.Function) and "product" in item.fixturenames:
        report.sections += list(logs_of(item.config.stash.get(_LOGS, Path())).items())
    return report


@pytest.fixture
async def linkings(settings: Settings, sessions: SessionMaker, whatsapp: WhatsApp) -> AsyncIterator[LinkingStage]:
    """The API and a fleet that links. What they log stays out of what commands print."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))
    async with listening(settings) as url:
        stage = LinkingStage(settings, sessions, whatsapp, url)
        stage.start_fleet()
        yield stage
        for person in stage.people:
            await person.aclose()
        await stage.stop_fleet()
    structlog.reset_defaults()


@pytest.fixture
async def person(linkings: LinkingStage) -> Person:
    """Somebody who is logged in."""
    return await linkings.register()
