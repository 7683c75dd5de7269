"""The migrations: down and up again, and to the same schema as the models declare."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from siaran.db import alembic_config, migrate
from siaran.models import Base
from siaran.settings import Settings

HERE = Path(__file__).parents[2]
"""Where the packages are."""


@pytest.fixture
def config(settings: Settings) -> Config:
    """Alembic on this test's database."""
    return alembic_config(settings.sqlalchemy_url)


async def tables(engine: AsyncEngine) -> set[str]:
    async with engine.connect() as connection:
        return set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))


async def test_the_schema_goes_down_to_nothing_and_up_again(engine: AsyncEngine, settings: Settings, config: Config) -> None:
    before = await tables(engine)
    assert "broadcast_messages" in before

    await asyncio.to_thread(command.downgrade, config, "base")
    assert await tables(engine) == {"alembic_version"}
    await asyncio.to_thread(migrate, settings)

    assert await tables(engine) == before


async def test_migrating_from_two_processes_at_once_and_then_again_is_harmless(
    settings: Settings, engine: AsyncEngine, database_url: str
) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("DROP SCHEMA public CASCADE"))
        await connection.execute(text("CREATE SCHEMA public"))
    program = "from siaran.db import migrate; from siaran.settings import Settings; migrate(Settings())"
    environment = {**os.environ, "DB_URI": database_url}

    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", program, env=environment, cwd=HERE) for _ in range(2)
    ]

    assert await asyncio.gather(*(process.wait() for process in processes)) == [0, 0]
    await asyncio.to_thread(migrate, settings)
    assert "broadcast_messages" in await tables(engine)


async def test_the_migrations_make_what_the_models_declare(engine: AsyncEngine) -> None:
    def difference(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return list(compare_metadata(context, Base.metadata))

    async with engine.connect() as connection:
        assert await connection.run_sync(difference) == []


async def test_every_instant_knows_its_zone_and_every_constraint_has_a_name_of_ours(engine: AsyncEngine) -> None:
    columns = text("""
        SELECT table_name || '.' || column_name FROM information_schema.columns
        WHERE table_schema = 'public' AND data_type = 'timestamp without time zone'
    """)
    constraints = text("""
        SELECT conname FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace
        WHERE n.nspname = 'public' AND conrelid <> 'alembic_version'::regclass AND contype IN ('p', 'f', 'u', 'c')
            AND conname !~ '^(pk|fk|uq|ck)_'
    """)
    async with engine.connect() as connection:
        assert list(await connection.scalars(columns)) == []
        assert list(await connection.scalars(constraints)) == []
