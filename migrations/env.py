"""Runs migrations on the configured database, one process at a time."""

from alembic import context
from sqlalchemy import engine_from_config, pool, text

from siaran.models import Base

MIGRATION_LOCK = 0x53494152
"""Advisory lock that makes servers which start together migrate one after the other."""


def run() -> None:
    section = context.config.get_section(context.config.config_ini_section, {})
    engine = engine_from_config(section, prefix="sqlalchemy.", poolclass=pool.NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.execute(text("SET lock_timeout = '10s'"))
        connection.commit()
        context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


run()
