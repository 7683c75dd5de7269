"""The database: engines, sessions, and bringing the schema up to date."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from siaran.settings import Settings

SessionMaker = async_sessionmaker[AsyncSession]


def make_engine(settings: Settings, *, pool_size: int = 5) -> AsyncEngine:
    """An engine whose connections are checked before use, so that a restart of PostgreSQL costs no request."""
    return create_async_engine(
        settings.sqlalchemy_url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        hide_parameters=True,  # errors end up in logs, parameters are people's numbers and texts
        connect_args={"connect_timeout": 5, "application_name": "siaran"},
    )


def make_sessions(engine: AsyncEngine) -> SessionMaker:
    """Sessions that keep loaded objects usable after their commit."""
    return async_sessionmaker(engine, expire_on_commit=False)


@asynccontextmanager
async def open_database(settings: Settings, *, pool_size: int = 5) -> AsyncIterator[SessionMaker]:
    """Sessions on an engine that is disposed of at the end."""
    engine = make_engine(settings, pool_size=pool_size)
    try:
        yield make_sessions(engine)
    finally:
        await engine.dispose()


def alembic_config(url: str) -> Config:
    """Alembic's configuration for a SQLAlchemy URL, usable from any working directory."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).resolve().parent.parent / "migrations"))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def migrate(settings: Settings) -> None:
    """Bring the schema up to the newest revision; waits for another process that is at it."""
    command.upgrade(alembic_config(settings.sqlalchemy_url), "head")
