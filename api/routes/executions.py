"""What runs in Temporal, for administrators: the way to the list of executions, and the Temporal UI itself."""

from typing import Annotated
from uuid import UUID

import httpx
import structlog
from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, Field

from api.auth import (
    SAFE_METHODS,
    AuthenticatedUser,
    OptionalUserDep,
    client_address,
    require_admin,
    require_login,
    require_user,
)
from api.context import Context, ContextDep
from api.pages import log_in_page
from api.problems import problem_response
from api.temporal_columns import columns_script
from api.temporal_ui import ask_temporal_ui, relay
from siaran.audit import record_audit
from siaran.errors import Forbidden, NotFound, Unauthenticated
from siaran.search_attributes import CAMPAIGN, DEVICE, USER
from siaran.temporal_ui import EXECUTIONS_PATH, OWNED, UI_PATH, WAITING, is_behind_api, list_link

log = structlog.get_logger()

router = APIRouter(tags=["administration"])

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


class ExecutionFilter(BaseModel):
    """Which executions to list; all that is given has to hold."""

    campaign: int | None = Field(None, ge=1, description="Of this campaign: its workflow, and the lanes that sent for it last.")
    device: UUID | None = Field(None, description="Of this device.")
    user: UUID | None = Field(None, description="Of this user.")
    waiting: bool = Field(False, description="Only what waits at the moment.")
    query: str = Field("", max_length=2000, description="A visibility query in Temporal's own words.")

    def visibility_query(self) -> str:
        """Temporal's query for it; without anything given, for all that belongs to a user."""
        parts = [f"`{CAMPAIGN.name}`={self.campaign}"] if self.campaign is not None else []
        parts += [f'`{DEVICE.name}`="{self.device}"'] if self.device is not None else []
        parts += [f'`{USER.name}`="{self.user}"'] if self.user is not None else []
        parts += [WAITING] if self.waiting else []
        if wanted := self.query.strip():
            parts.append(f"({wanted})" if parts else wanted)
        return " AND ".join(parts) or OWNED


@router.get(EXECUTIONS_PATH, status_code=303, response_class=RedirectResponse)
async def list_executions(
    request: Request, user: OptionalUserDep, context: ContextDep, wanted: Annotated[ExecutionFilter, Query()]
) -> Response:
    """Lead a browser to the list of executions in the Temporal UI; for administrators."""
    admitted = await _admit(request, user)
    if isinstance(admitted, Response):
        return admitted
    link = list_link(context.settings, wanted.visibility_query())
    if link is None:
        raise NotFound("no Temporal UI is known here: set TEMPORAL_UI_URL")
    return RedirectResponse(link, status_code=303)


@router.api_route(UI_PATH, methods=["GET"], include_in_schema=False)
@router.api_route(UI_PATH + "/{path:path}", methods=METHODS, include_in_schema=False)
async def pass_on(request: Request, user: OptionalUserDep, context: ContextDep, path: str = "") -> Response:
    """Pass a request on to the Temporal UI; for administrators, and noted where it may change something."""
    admitted = await _admit(request, user)
    if isinstance(admitted, Response):
        return admitted
    if not path and request.method == "GET":
        return RedirectResponse(EXECUTIONS_PATH, status_code=303)
    if not is_behind_api(context.settings):
        raise NotFound(f"the Temporal UI is not passed on from here: {EXECUTIONS_PATH} leads to it")
    if {".", ".."} & set(path.split("/")):
        raise NotFound
    await _note(request, admitted, context, path)
    try:
        answer = await ask_temporal_ui(context.temporal_ui, context.settings, request)
        return await relay(answer, columns_script(context.settings.temporal_namespace))
    except httpx.HTTPError as error:
        log.warning("temporal_ui_unavailable", error=type(error).__name__)
        return problem_response(
            502, "BAD_GATEWAY", "The Temporal UI does not answer", "the Temporal UI does not answer; try again"
        )


async def _admit(request: Request, user: AuthenticatedUser | None) -> AuthenticatedUser | Response:
    """The administrator of a request. A browser of anybody else's is given a page to log in, others the problem."""
    try:
        return await require_admin(await require_user(request, await require_login(user)))
    except (Unauthenticated, Forbidden) as error:
        if request.method != "GET" or "text/html" not in request.headers.get("accept", ""):
            raise
        return log_in_page(error.detail, 401 if user is None else 403)


async def _note(request: Request, admin: AuthenticatedUser, context: Context, path: str) -> None:
    """Note before it happens what may change an execution; queries only read, though they are posted."""
    if request.method in SAFE_METHODS or "/query/" in path:
        return
    async with context.sessions.begin() as session:
        await record_audit(
            session,
            actor_id=admin.id,
            owner_id=None,
            action="temporal.changed",
            subject=f"temporal:{path}",
            details={"method": request.method},
            address=client_address(request),
        )
