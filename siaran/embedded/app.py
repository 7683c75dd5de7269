"""Siaran's own processes, run beside the servers of an embedded stack and under the same supervisor."""

import asyncio
import os
import sys
from collections.abc import Mapping
from datetime import timedelta

import httpx

from siaran.db import migrate
from siaran.embedded.options import LOOPBACK
from siaran.embedded.stack import EmbeddedStack
from siaran.embedded.supervisor import Child


async def start_app(stack: EmbeddedStack, environment: Mapping[str, str] | None = None) -> None:
    """Migrate the database, then start worker, fleet and API; returns when the API answers.

    The stack must have been made with `app_ports=("api_port",)`. `environment` comes on top of this process's own and the
    stack's. Raises `ChildFailed` when the API does not start.
    """
    await asyncio.to_thread(migrate, stack.settings)
    for child in (worker_child(stack, environment), fleet_child(stack, environment)):
        await stack.supervisor.start(child)
    await stack.supervisor.start(api_child(stack, environment))


def worker_child(stack: EmbeddedStack, environment: Mapping[str, str] | None = None, *, name: str = "worker") -> Child:
    """A workflow worker; give further ones names of their own."""
    return Child(
        name=name,
        title="Worker",
        command=(sys.executable, "-m", "worker"),
        environment=_environment(stack, environment),
        stage=1,
        stop_within=timedelta(seconds=30),
    )


def fleet_child(stack: EmbeddedStack, environment: Mapping[str, str] | None = None) -> Child:
    """The fleet, which starts the device hosts; a host ends the send it is at before it stops."""
    return Child(
        name="fleet",
        title="Fleet",
        command=(sys.executable, "-m", "worker.fleet"),
        environment=_environment(stack, environment),
        stage=2,
        stop_within=timedelta(seconds=120),
    )


def api_child(stack: EmbeddedStack, environment: Mapping[str, str] | None = None) -> Child:
    """The API; ready when its health endpoint answers, whatever it says about the rest."""
    url = f"{api_url(stack)}/health"

    async def answers() -> bool:
        try:
            async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
                return (await client.get(url)).status_code < 600
        except httpx.HTTPError:
            return False

    return Child(
        name="api",
        title="API",
        command=(sys.executable, "-m", "api"),
        environment=_environment(stack, environment),
        stage=2,
        ready=answers,
        stop_within=timedelta(seconds=15),
    )


def api_url(stack: EmbeddedStack) -> str:
    """Where the API is reached from this machine."""
    return f"http://{LOOPBACK}:{stack.options.api_port}"


def _environment(stack: EmbeddedStack, extra: Mapping[str, str] | None) -> dict[str, str]:
    own = {"APP_PORT": str(stack.options.api_port)}
    return {**os.environ, **stack.environment, **own, **(extra or {})}
