"""API keys: what scripts log in with."""

from datetime import datetime
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.auth import SessionUserDep
from api.context import ContextDep
from api.envelope import Envelope, success
from siaran.credentials import Scope, create_key, list_keys, revoke_key
from siaran.errors import Conflict, Invalid
from siaran.models import ApiKey

router = APIRouter(prefix="/api/api-keys", tags=["api keys"])

MOST_KEYS = 50


class KeyCreation(BaseModel):
    """A key to create."""

    name: str = Field(min_length=1, max_length=100, description="What the key is for.")
    scopes: set[Scope] = Field(
        {Scope.READ, Scope.WRITE, Scope.SEND},
        min_length=1,
        description="`read`: every GET; `write`: change anything; `send`: send messages at once; `admin`: for administrators.",
    )


class Key(BaseModel):
    """A key without what makes it one."""

    id: UUID
    name: str
    prefix: str = Field(description="How the key begins, to tell it from others.")
    scopes: list[Scope]
    created_at: datetime
    last_used_at: datetime | None = Field(description="Last use, at most a minute behind.")


class NewKey(Key):
    """A new key; this is the only time that it is shown."""

    key: str = Field(description="For `Authorization: Bearer`.")


class Revoked(BaseModel):
    """The key that no longer works."""

    id: UUID


def _describe(row: ApiKey) -> Key:
    return Key.model_validate(row, from_attributes=True)


@router.get("")
async def read_keys(user: SessionUserDep, context: ContextDep) -> Envelope[list[Key]]:
    """One's API keys, newest first."""
    async with context.sessions.begin() as session:
        rows = await list_keys(session, user.id)
    return success([_describe(row) for row in rows], "API keys")


@router.post("", status_code=201)
async def create_api_key(body: KeyCreation, user: SessionUserDep, context: ContextDep) -> Envelope[NewKey]:
    """Create an API key. The answer is the only place where it is shown."""
    if Scope.ADMIN in body.scopes and not user.is_admin:
        raise Invalid.field("scopes", "`admin` is for administrators")
    async with context.sessions.begin() as session:
        if len(await list_keys(session, user.id)) >= MOST_KEYS:
            raise Conflict(f"you have {MOST_KEYS} API keys; revoke one first")
        row, key = await create_key(session, user.id, name=body.name, scopes=body.scopes, now=context.clock())
    return success(NewKey(**_describe(row).model_dump(), key=key), "API key created; store it now, it is not shown again")


@router.delete("/{key_id}")
async def revoke_api_key(key_id: UUID, user: SessionUserDep, context: ContextDep) -> Envelope[Revoked]:
    """Revoke an API key; it stops working at once."""
    async with context.sessions.begin() as session:
        await revoke_key(session, user.id, key_id, context.clock())
    return success(Revoked(id=key_id), "API key revoked")
