"""Counters per campaign and device, changed last in a transaction and in key order."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.models import MessageStatus

_COLUMNS = ("pending", "sent", "delivered", "read", "failed", "unknown", "suppressed", "cancelled")

_CHANGE = text(f"""
    INSERT INTO campaign_counts (campaign_id, device_id, user_id, {", ".join(_COLUMNS)})
    SELECT * FROM unnest(
        CAST(:campaigns AS bigint[]), CAST(:devices AS uuid[]), CAST(:users AS uuid[]),
        {", ".join(f"CAST(:{column} AS int[])" for column in _COLUMNS)}
    )
    ON CONFLICT (campaign_id, device_id) DO UPDATE SET
        {", ".join(f"{column} = campaign_counts.{column} + excluded.{column}" for column in _COLUMNS)}
""")  # noqa: S608 -- the columns are constants above


@dataclass(frozen=True, slots=True)
class Change:
    """`count` messages of a campaign on a device went from one state to another; `before` is None for new rows."""

    campaign_id: int | None
    device_id: UUID
    user_id: UUID
    before: MessageStatus | None
    after: MessageStatus | None
    count: int = 1


def _column(status: MessageStatus) -> str:
    return "pending" if status is MessageStatus.CLAIMED else status.value


async def change_counters(session: AsyncSession, changes: Iterable[Change]) -> None:
    """Add up the changes and write them in one statement; call it last, so that the hot rows are locked briefly.

    Messages of no campaign are passed over, and so are changes that cancel each other out.
    """
    sums: dict[tuple[int, UUID, UUID], dict[str, int]] = defaultdict(lambda: dict.fromkeys(_COLUMNS, 0))
    for change in changes:
        if change.campaign_id is None:
            continue
        row = sums[change.campaign_id, change.device_id, change.user_id]
        if change.before is not None:
            row[_column(change.before)] -= change.count
        if change.after is not None:
            row[_column(change.after)] += change.count
    keys = sorted(key for key, row in sums.items() if any(row.values()))
    if not keys:
        return
    await session.execute(
        _CHANGE,
        {
            "campaigns": [key[0] for key in keys],
            "devices": [key[1] for key in keys],
            "users": [key[2] for key in keys],
            **{column: [sums[key][column] for key in keys] for column in _COLUMNS},
        },
    )
