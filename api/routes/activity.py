"""The activity log: what happened to one's campaigns, devices and leads."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from api.auth import UserDep
from api.context import ContextDep
from api.envelope import ListEnvelope, listed
from api.paging import PagingDep
from siaran.activity_log import list_activities, subject_names
from siaran.models import Activity

router = APIRouter(tags=["activity"])


class ActivityView(BaseModel):
    """One line of the log."""

    id: int
    kind: str = Field(description="A thing and what happened to it.", examples=["campaign.paused"])
    subject: str = Field(description="Which one.", examples=["campaign:17"])
    name: str | None = Field(description="What you call the campaign, sequence or device.")
    device_id: UUID | None = Field(description="The device it is about, if it is about one.")
    details: dict[str, Any]
    created_at: datetime

    @classmethod
    def of(cls, activity: Activity, names: Mapping[str, str]) -> "ActivityView":
        """A row of the log; `names` are by subject."""
        return cls(
            id=activity.id,
            kind=activity.kind,
            subject=activity.subject,
            name=names.get(activity.subject),
            device_id=activity.device_id,
            details=dict(activity.details),
            created_at=activity.created_at,
        )


@router.get("/api/activity")
async def read_activity(
    user: UserDep,
    context: ContextDep,
    paging: PagingDep,
    device_id: Annotated[UUID | None, Query(description="Only what is about this device of yours.")] = None,
    kind: Annotated[
        str,
        Query(
            max_length=50,
            pattern=r"^[a-z_]*(\.[a-z_]+)?$",
            description="Only one kind (`campaign.paused`), or all of `campaign`, `sequence`, `device`, `message`, "
            "`broadcast`, `import`, `opt_out`.",
        ),
    ] = "",
) -> ListEnvelope[ActivityView]:
    """What happened, newest first."""
    after = paging.after(tuple[int])
    async with context.sessions.begin() as session:
        rows = await list_activities(
            session,
            user.id,
            device_id=device_id,
            kind=kind,
            before_id=after[0] if after is not None else None,
            limit=paging.fetch,
        )
        page, next_cursor = paging.cut(rows, lambda activity: (activity.id,))
        names = await subject_names(session, user.id, page)
    return listed([ActivityView.of(activity, names) for activity in page], next_cursor, "Activity")
