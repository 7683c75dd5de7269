"""Reads that only a connected device can do: asked of the device's host, and answered by it; every call names the owner.

Questions and answers pass through Redis for a minute or two: what Temporal keeps of a read names neither phones nor people.
"""

import asyncio
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import func, select
from temporalio.client import ActivityFailureError, Client
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from siaran.contracts import HostRead, host_queue
from siaran.db import SessionMaker
from siaran.devices import get_device
from siaran.errors import Conflict, Unavailable
from siaran.models import DeviceStatus, Host

SCHEDULE_TO_START = timedelta(seconds=5)
"""A host that lives takes a read at once."""

READ_TIME = timedelta(seconds=20)
"""How long WhatsApp has for its answer."""

KEPT_FOR = timedelta(minutes=2)
"""How long Redis keeps a question and its answer."""

_PATIENCE = SCHEDULE_TO_START + READ_TIME + timedelta(seconds=10)


def question_key(token: str) -> str:
    """Where Redis has the question of a read."""
    return f"host-read:{token}:question"


def answer_key(token: str) -> str:
    """Where Redis has the answer to a read."""
    return f"host-read:{token}:answer"


@dataclass(frozen=True, slots=True)
class HostReader:
    """Asks the hosts of devices.

    Every read raises `NotFound` for another user's device, `Unavailable` where the device is not online or does not answer in
    time, and `Conflict` where WhatsApp refuses the question.
    """

    sessions: SessionMaker
    redis: Redis
    client: Client

    async def check_numbers(self, user_id: UUID, device_id: UUID, phones: list[str]) -> dict[str, bool]:
        """Which of the phones (digits, international form) have an account; WhatsApp restricts accounts that ask for many."""
        found: dict[str, bool] = await self._ask(user_id, device_id, "check_numbers", phones)
        return found

    async def read_contacts(self, user_id: UUID, device_id: UUID) -> dict[str, str]:
        """The names under which the device's account knows its contacts, by phone."""
        names: dict[str, str] = await self._ask(user_id, device_id, "read_contacts", None)
        return names

    async def picture_url(self, user_id: UUID, device_id: UUID, chat: str) -> str | None:
        """Where the picture of a chat can be read for some time, None where there is none to be seen."""
        url: str | None = await self._ask(user_id, device_id, "picture_url", chat)
        return url

    async def _ask(self, user_id: UUID, device_id: UUID, what: str, question: object) -> Any:
        host_id = await self._host_of(user_id, device_id)
        token = str(uuid4())
        try:
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                await self.redis.set(question_key(token), json.dumps(question), ex=KEPT_FOR)
                await self.client.execute_activity(
                    what,
                    HostRead(device_id, token),
                    id=f"read:{token}",
                    task_queue=host_queue(host_id),
                    schedule_to_start_timeout=SCHEDULE_TO_START,
                    start_to_close_timeout=READ_TIME + timedelta(seconds=5),
                    retry_policy=RetryPolicy(maximum_attempts=1),
                    summary="read of a device",
                    rpc_timeout=SCHEDULE_TO_START,
                )
                answer = await self.redis.getdel(answer_key(token))
        except ActivityFailureError as error:
            raise _refusal(error) from error
        except (RPCError, RuntimeError, RedisError, OSError) as error:  # a timeout is an OSError
            raise Unavailable("the device's host did not answer; try again in a moment") from error
        if answer is None:
            raise Unavailable("the device's answer was lost; try again")
        return json.loads(answer)

    async def _host_of(self, user_id: UUID, device_id: UUID) -> int:
        """The live host of a user's device."""
        async with self.sessions() as session:
            device = await get_device(session, user_id, device_id)
            host = select(Host.id).where(Host.id == device.host_id, Host.ended_at.is_(None), Host.expires_at > func.now())
            host_id = await session.scalar(host) if device.status == DeviceStatus.ONLINE else None
        if host_id is None:
            raise Unavailable(f"{device.device_name} is not online")
        return host_id


def _refusal(error: ActivityFailureError) -> Unavailable | Conflict:
    cause = error.cause
    match cause.type if isinstance(cause, ApplicationError) else "":
        case "NotConnected" | "LoggedOut" | "Banned":
            return Unavailable("the device is not online")
        case "Busy":
            return Unavailable("the device is busy with other questions; try again in a moment")
        case "RateLimited" | "Restricted" | "Rejected":
            return Conflict("WhatsApp does not answer this device's question now")
        case _:
            return Unavailable("WhatsApp did not answer the device in time; try again in a moment")
