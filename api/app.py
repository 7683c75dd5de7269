"""The application: its stores, its routes, and what surrounds every request."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI

from api.characters import refuse_half_characters
from api.context import Context
from api.csrf import CsrfMiddleware
from api.docs import install_docs
from api.middleware import BodyLimitMiddleware, RequestMiddleware
from api.notices import Notices
from api.problems import install_problems
from api.routes import ROUTERS
from api.temporal_ui import open_temporal_ui
from siaran.accounts import ensure_administrator
from siaran.cache import open_redis
from siaran.clock import Clock, system_clock
from siaran.db import open_database
from siaran.settings import Settings
from siaran.temporal import connect
from siaran.version import VERSION

DATABASE_POOL = 10
MAX_BODY_BYTES = 8 * 2**20
"""The largest body of a request, unless a route (an upload, an import) sets its own `max_body_size`."""


@asynccontextmanager
async def open_context(settings: Settings, clock: Clock) -> AsyncIterator[Context]:
    """The stores of a process, closed at the end. Only PostgreSQL has to be there when it is first used."""
    temporal = await connect(settings, lazy=True)
    async with (
        open_database(settings, pool_size=DATABASE_POOL) as sessions,
        open_redis(settings) as redis,
        open_temporal_ui() as temporal_ui,
    ):
        yield Context(settings, sessions, redis, temporal, temporal_ui, clock, Notices(redis))


def create_app(settings: Settings, *, clock: Clock = system_clock) -> FastAPI:
    """The API on the stores of `settings`; its lifespan opens them and creates the first administrator."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_context(settings, clock) as context:
            await ensure_administrator(context.sessions, settings, clock())
            app.state.context = context
            yield

    app = FastAPI(
        title="Siaran",
        version=VERSION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(refuse_half_characters)],
        # Its log records repeat what was sent and the messages of exceptions; ours do not.
        telemetry={"logs": False},
    )
    install_problems(app)
    for router in ROUTERS:
        app.include_router(router)
    install_docs(app)
    # The last one added is the outermost.
    app.add_middleware(CsrfMiddleware, allowed_origins=settings.allowed_origins)
    app.add_middleware(BodyLimitMiddleware, max_body_size=MAX_BODY_BYTES)
    app.add_middleware(RequestMiddleware)
    return app
