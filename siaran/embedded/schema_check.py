"""Checks, on a PostgreSQL thrown away afterwards, that the migrations lead to the tables that the models describe."""

import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from alembic import command
from alembic.util.exc import CommandError
from pydantic import SecretStr

from siaran.db import alembic_config, migrate
from siaran.embedded.options import StackOptions, choose_ports
from siaran.embedded.postgres import EmbeddedPostgres
from siaran.embedded.supervisor import Supervisor
from siaran.settings import Settings


async def main() -> str | None:
    """What differs between migrations and models, or None."""
    options = choose_ports(StackOptions(postgres_fsync=False).with_free_ports(), {"postgres_port"})
    with TemporaryDirectory(prefix="siaran-") as folder:
        async with Supervisor(Path(folder) / "logs") as supervisor:
            postgres = EmbeddedPostgres(Path(folder), options, "throw-away")
            await postgres.initialise()
            await supervisor.start(postgres.child())
            await postgres.create_database()
            settings = Settings(database_url=SecretStr(postgres.url))
            try:
                await asyncio.to_thread(migrate, settings)
                await asyncio.to_thread(command.check, alembic_config(settings.sqlalchemy_url))
            except CommandError as error:
                return f"Migrations and models differ: {error}"
    return None


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
