"""Fixtures for every test: real servers once a session, and a database and a Temporal namespace of its own for each test."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from pydantic import AliasChoices, SecretStr
from pydantic_settings import BaseSettings
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from temporalio.client import Client

from siaran.db import SessionMaker, make_engine, make_sessions
from siaran.embedded.options import StackOptions
from siaran.embedded.stack import EmbeddedStack
from siaran.settings import Settings
from siaran.temporal import connect
from tests.servers import TestServers

HEAVY = ("embedded", "faults")
"""Folders of tests that start stacks of their own: two of those at once would only wait for each other."""

LONG = (*HEAVY, "properties", "whatsapp")
"""Folders of tests that take many seconds each."""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep heavy tests together, and begin with what takes long, where several processes share the tests."""
    for item in items:
        if item.path.parent.name in HEAVY:
            item.add_marker(pytest.mark.xdist_group("stacks"))
    items.sort(key=lambda item: item.get_closest_marker("faults") is None and item.path.parent.name not in LONG)


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    """Keep the variables of whoever runs the tests from pointing them at other servers."""
    with pytest.MonkeyPatch.context() as patch:
        for name in variables_of(Settings) | variables_of(StackOptions):
            patch.delenv(name, raising=False)
        yield


def variables_of(model: type[BaseSettings]) -> set[str]:
    """Every environment variable that fills a field of `model`."""
    aliases = [field.validation_alias for field in model.model_fields.values()]
    choices = [alias.choices if isinstance(alias, AliasChoices) else [alias] for alias in aliases]
    return {choice for group in choices for choice in group if isinstance(choice, str)}


@contextmanager
def stack_folder() -> Iterator[Path]:
    """A new folder for a stack's data. Not one of pytest's: those are closed to the user that PostgreSQL runs as under root."""
    with TemporaryDirectory(prefix="siaran-") as folder:
        yield Path(folder)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder for the data of a stack that a test starts, and kills, by itself."""
    with stack_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
async def stack() -> AsyncIterator[EmbeddedStack]:
    """PostgreSQL, two Valkeys and Temporal on free ports, for the whole session. To kill some, start a stack of your own."""
    options = StackOptions(postgres_fsync=False, temporal_time_skipping=True).with_free_ports()
    with stack_folder() as folder:
        async with EmbeddedStack(Settings(data_dir=folder), options) as running:
            yield running


@pytest.fixture(scope="session")
async def servers(stack: EmbeddedStack) -> TestServers:
    """The session's servers with a migrated template database."""
    servers = TestServers(stack)
    await servers.create_template()
    return servers


@pytest.fixture
async def database_url(servers: TestServers) -> AsyncIterator[str]:
    """A migrated database without rows, of this test alone."""
    name = await servers.create_database()
    yield servers.database_url(name)
    await servers.drop_database(name)


@pytest.fixture
async def redis_url(stack: EmbeddedStack, servers: TestServers) -> AsyncIterator[str]:
    """Siaran's Valkey, emptied after the test."""
    yield stack.environment["REDIS_URL"]
    await servers.empty(stack.environment["REDIS_URL"])


@pytest.fixture
async def network_url(stack: EmbeddedStack, servers: TestServers) -> AsyncIterator[str]:
    """The simulated network's Valkey, emptied after the test."""
    yield stack.environment["SIARAN_NETWORK_URL"]
    await servers.empty(stack.environment["SIARAN_NETWORK_URL"])


@pytest.fixture
async def temporal_namespace(servers: TestServers) -> str:
    """A Temporal namespace of this test alone, so that `campaign:1` of another test is another workflow."""
    return await servers.create_namespace()


@pytest.fixture
def settings(
    stack: EmbeddedStack, database_url: str, redis_url: str, network_url: str, temporal_namespace: str, tmp_path: Path
) -> Settings:
    """Settings that point to the servers of this test."""
    return stack.settings.model_copy(
        update={
            "database_url": SecretStr(database_url),
            "redis_url": SecretStr(redis_url),
            "network_url": SecretStr(network_url),
            "temporal_namespace": temporal_namespace,
            "data_dir": tmp_path,
            # Most tests have no host that could be asked about numbers.
            "account_validation": False,
        }
    )


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """An engine on this test's database."""
    engine = make_engine(settings)
    yield engine
    await engine.dispose()


@pytest.fixture
def sessions(engine: AsyncEngine) -> SessionMaker:
    """Opens sessions on this test's database."""
    return make_sessions(engine)


@pytest.fixture
async def session(sessions: SessionMaker) -> AsyncIterator[AsyncSession]:
    """One session on this test's database; the test commits what others shall see."""
    async with sessions() as session:
        yield session


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of Siaran's Valkey that answers text."""
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def temporal_client(settings: Settings) -> Client:
    """A client of this test's Temporal namespace."""
    return await connect(settings)
