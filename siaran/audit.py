"""The audit log: what an administrator, or the system on someone's behalf, did to whose row."""

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from siaran.models import AuditEntry


async def record_audit(
    session: AsyncSession,
    *,
    actor_id: UUID | None,
    owner_id: UUID | None,
    action: str,
    subject: str,
    details: Mapping[str, object] | None = None,
    address: str = "",
) -> None:
    """Write an entry in the transaction of what it tells about, so that neither stands without the other.

    `action` is a dotted verb (`user.deactivated`, `campaign.paused`), `subject` names the row (`campaign:17`), `owner_id` is
    the user whose row it is. `details` is JSON without secrets, phone numbers or texts.
    """
    session.add(
        AuditEntry(
            actor_id=actor_id,
            owner_id=owner_id,
            action=action,
            subject=subject,
            details=dict(details or {}),
            address=address,
        )
    )
