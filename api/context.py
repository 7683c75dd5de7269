"""What every request may use: the stores, the clock and the settings of this process."""

from dataclasses import dataclass
from typing import Annotated

import httpx
from fastapi import Depends, Request
from redis.asyncio import Redis
from temporalio.client import Client

from api.notices import Notices
from siaran.clock import Clock
from siaran.db import SessionMaker
from siaran.settings import Settings


@dataclass(frozen=True, slots=True)
class Context:
    """Opened once when the process starts, closed when it ends.

    `temporal` connects lazily, so that the API starts and answers while Temporal is away; whatever a signal would have said
    stands in PostgreSQL first, and a sweep makes up for the signal.
    """

    settings: Settings
    sessions: SessionMaker
    redis: "Redis"
    temporal: Client
    temporal_ui: httpx.AsyncClient
    clock: Clock
    notices: Notices


def get_context(request: Request) -> Context:
    """The context of the application that serves the request."""
    context: Context = request.app.state.context
    return context


ContextDep = Annotated[Context, Depends(get_context)]
