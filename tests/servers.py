"""What tests do with the session's servers: clone databases from a template, add Temporal namespaces, empty Valkeys."""

import asyncio
from uuid import uuid4

import psycopg
from psycopg import sql
from pydantic import SecretStr
from redis.asyncio import Redis

from siaran.db import migrate
from siaran.embedded.stack import EmbeddedStack
from siaran.namespaces import prepare_namespace
from siaran.settings import Settings

TEMPLATE = "siaran_template"


class TestServers:
    """The servers of one test session, with what isolates the tests from each other."""

    __test__ = False

    def __init__(self, stack: EmbeddedStack) -> None:
        self.stack = stack

    def database_url(self, name: str) -> str:
        """The address of a database of the session's PostgreSQL."""
        return self.stack.environment["DB_URI"].rpartition("/")[0] + f"/{name}"

    async def create_template(self) -> None:
        """Create the migrated database that all others are copies of."""
        await self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
        settings = Settings(database_url=SecretStr(self.database_url(TEMPLATE)))
        await asyncio.to_thread(migrate, settings)

    async def create_database(self) -> str:
        """A fresh migrated database; returns its name."""
        name = f"test_{uuid4().hex}"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        await self._execute(statement.format(sql.Identifier(name), sql.Identifier(TEMPLATE)))
        return name

    async def drop_database(self, name: str) -> None:
        """Remove a database together with whoever is still connected to it."""
        await self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    async def create_namespace(self) -> str:
        """A fresh Temporal namespace with Siaran's search attributes; returns its name."""
        name = f"test-{uuid4().hex}"
        await prepare_namespace(self.stack.settings.model_copy(update={"temporal_namespace": name}))
        return name

    async def empty(self, url: str) -> None:
        """Delete every key of a Valkey."""
        async with Redis.from_url(url) as client:
            await client.flushall()

    async def _execute(self, statement: sql.Composed) -> None:
        url = self.database_url("postgres")
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(statement)
