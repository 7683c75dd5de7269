"""What tests do with the session's servers: databases like a template, Temporal namespaces, emptied Valkeys."""

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

_TABLES = """
    SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'
    ORDER BY relname
"""
_OTHERS_OUT = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_TRIES = 20
_TRY_SECONDS = 0.01


class TestServers:
    """The servers of one test session, with what isolates the tests from each other."""

    __test__ = False

    def __init__(self, stack: EmbeddedStack) -> None:
        self.stack = stack
        self._spare: list[str] = []
        self._tables: list[str] = []

    def database_url(self, name: str) -> str:
        """The address of a database of the session's PostgreSQL."""
        return self.stack.environment["DB_URI"].rpartition("/")[0] + f"/{name}"

    async def create_template(self) -> None:
        """Create the migrated database that all others are copies of."""
        await self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
        settings = Settings(database_url=SecretStr(self.database_url(TEMPLATE)))
        await asyncio.to_thread(migrate, settings)
        async with await psycopg.AsyncConnection.connect(self.database_url(TEMPLATE)) as connection:
            self._tables = await _tables(connection)

    async def create_database(self) -> str:
        """A migrated database without rows; returns its name, which none before it had.

        A new name keeps whoever is left over from an earlier test out of it.
        """
        name = f"test_{uuid4().hex}"
        if self._spare and await self._rename(self._spare.pop(), name):
            return name
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        await self._execute(statement.format(sql.Identifier(name), sql.Identifier(TEMPLATE)))
        return name

    async def drop_database(self, name: str) -> None:
        """Empty a database, whoever is still connected to it, for another test; remove it if a test has changed its tables.

        Making a database costs ten times what emptying one does.
        """
        try:
            is_kept = await self._clear(name)
        except psycopg.Error:
            is_kept = False
        if is_kept:
            self._spare.append(name)
        else:
            await self._remove(name)

    async def _clear(self, name: str) -> bool:
        """Remove all rows; False where the tables are not those of the template."""
        async with await psycopg.AsyncConnection.connect(self.database_url(name), autocommit=True) as connection:
            await connection.execute(_OTHERS_OUT)
            if await _tables(connection) != self._tables:
                return False
            look = sql.SQL("SELECT {name} WHERE EXISTS (SELECT FROM {table})")
            looks = [look.format(name=sql.Literal(table), table=sql.Identifier(table)) for table in self._tables]
            filled = await (await connection.execute(sql.SQL(" UNION ALL ").join(looks))).fetchall()
            if filled:
                names = sql.SQL(", ").join(sql.Identifier(row[0]) for row in filled)
                await connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(names))
        return True

    async def _rename(self, old: str, new: str) -> bool:
        """Give an emptied database another name; removes it and returns False where somebody does not leave it."""
        statement = sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new))
        for _ in range(_TRIES):
            try:
                await self._execute(statement)
            except psycopg.errors.ObjectInUse:
                await asyncio.sleep(_TRY_SECONDS)
            else:
                return True
        await self._remove(old)
        return False

    async def _remove(self, name: str) -> None:
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


async def _tables(connection: psycopg.AsyncConnection[tuple[str]]) -> list[str]:
    return [row[0] for row in await (await connection.execute(_TABLES)).fetchall()]
