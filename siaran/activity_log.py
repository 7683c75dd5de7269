"""The activity log: what happened to a user's things, written in the transaction of what it tells about."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.models import Activity, Campaign, Device, LeadImport
from siaran.models import Sequence as Project
from siaran.tenancy import get_owned, select_owned

CAMPAIGN = "campaign:"
DEVICE = "device:"
SEQUENCE = "sequence:"


def note(
    session: AsyncSession,
    user_id: UUID,
    kind: str,
    subject: str,
    *,
    device_id: UUID | None = None,
    details: Mapping[str, object] | None = None,
) -> None:
    """Add a line to a user's log; it is written with the session's next flush and stands or falls with its transaction.

    `kind` is a noun and what happened to it (`campaign.paused`), `subject` names the row (`campaign:17`). `details` is JSON
    without message texts, phone numbers or secrets. `device_id` is that of the device it is about, if it is about one.
    """
    session.add(Activity(user_id=user_id, kind=kind, subject=subject, device_id=device_id, details=dict(details or {})))


def note_campaign(session: AsyncSession, campaign: Campaign, what: str, **details: object) -> None:
    """Add what happened to a campaign that has its id already, such as `paused`."""
    note(
        session, campaign.user_id, f"campaign.{what}", f"{CAMPAIGN}{campaign.id}", device_id=campaign.device_id, details=details
    )


def note_device(session: AsyncSession, user_id: UUID, device_id: UUID, what: str, **details: object) -> None:
    """Add what happened to a device, such as `linked`."""
    note(session, user_id, f"device.{what}", f"{DEVICE}{device_id}", device_id=device_id, details=details)


def note_sequence(session: AsyncSession, sequence: Project, what: str, **details: object) -> None:
    """Add what happened to a sequence that has its id already, such as `paused`."""
    subject = f"{SEQUENCE}{sequence.id}"
    note(session, sequence.user_id, f"sequence.{what}", subject, device_id=sequence.device_id, details=details)


def note_import(session: AsyncSession, row: LeadImport) -> None:
    """Add how an import ended, with how many rows became what, once its row says so; a dry run is passed over."""
    if not row.is_dry_run:
        note(session, row.user_id, f"import.{row.status}", f"import:{row.id}", device_id=row.device_id, details=row.counts)


async def list_activities(
    session: AsyncSession,
    user_id: UUID,
    *,
    device_id: UUID | None = None,
    kind: str = "",
    before_id: int | None = None,
    limit: int,
) -> Sequence[Activity]:
    """A user's log, newest first, beginning behind `before_id`; `kind` is one such as `campaign.paused`, or all of a noun.

    Raises `NotFound` for somebody else's device.
    """
    query = select_owned(Activity, user_id)
    if device_id is not None:
        await get_owned(session, Device, user_id, Device.id == device_id)
        query = query.where(Activity.device_id == device_id)
    if kind:
        query = query.where(Activity.kind == kind if "." in kind else Activity.kind.startswith(f"{kind}.", autoescape=True))
    if before_id is not None:
        query = query.where(Activity.id < before_id)
    return (await session.scalars(query.order_by(Activity.id.desc()).limit(limit))).all()


async def subject_names(session: AsyncSession, user_id: UUID, activities: Sequence[Activity]) -> dict[str, str]:
    """What the user calls the campaigns, sequences and devices that lines are about, deleted ones included, by subject."""
    subjects = {activity.subject for activity in activities}
    campaigns = [int(subject.removeprefix(CAMPAIGN)) for subject in subjects if subject.startswith(CAMPAIGN)]
    devices = [UUID(subject.removeprefix(DEVICE)) for subject in subjects if subject.startswith(DEVICE)]
    sequences = [UUID(subject.removeprefix(SEQUENCE)) for subject in subjects if subject.startswith(SEQUENCE)]
    titles = select(Campaign.id, Campaign.title).where(Campaign.user_id == user_id, Campaign.id.in_(campaigns))
    names = select(Device.id, Device.device_name).where(Device.user_id == user_id, Device.id.in_(devices))
    found = {f"{CAMPAIGN}{row.id}": row.title for row in await session.execute(titles)}
    found |= {f"{DEVICE}{row.id}": row.device_name for row in await session.execute(names)}
    projects = select(Project.id, Project.name).where(Project.user_id == user_id, Project.id.in_(sequences))
    return found | {f"{SEQUENCE}{row.id}": row.name for row in await session.execute(projects)}
