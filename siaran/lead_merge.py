"""Merging a batch of imported rows into a user's leads with one statement."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.lead_rows import LeadRow, Verdict
from siaran.models import User

IMPORTED = "import"
"""What `source` says of leads that an import created."""


@dataclass(frozen=True, slots=True)
class MergeRules:
    """Whose leads they are, the device of new leads whose row names none, and which columns the file has.

    What the file has no column for stays as it is in leads that exist, and so does their device unless the row names one.
    """

    user_id: UUID
    device_id: UUID | None
    columns: frozenset[str]


# Rows travel as one array per column: nothing to create or drop as with a temporary table, and no statement per row. No tag
# contains a comma, so a row's tags travel joined by it.
_MERGED = """
WITH incoming AS (
    SELECT *
    FROM unnest(
        CAST(:lines AS int[]), CAST(:names AS text[]), CAST(:phones AS text[]), CAST(:niches AS text[]), CAST(:tags AS text[]),
        CAST(:target_statuses AS text[]), CAST(:journeys AS text[]), CAST(:device_ids AS uuid[])
    ) AS row (line, name, phone, niche, tags, target_status, journey, device_id)
), merged AS (
    SELECT
        incoming.line, incoming.phone, incoming.name,
        CASE WHEN :has_niche OR lead.id IS NULL THEN incoming.niche ELSE lead.niche END AS niche,
        CASE WHEN :has_niche OR lead.id IS NULL THEN string_to_array(incoming.tags, ',') ELSE lead.niches END AS niches,
        CASE WHEN :has_status OR lead.id IS NULL THEN incoming.target_status ELSE lead.target_status END AS target_status,
        CASE WHEN :has_note OR lead.id IS NULL THEN incoming.journey ELSE lead.journey END AS journey,
        coalesce(incoming.device_id, lead.device_id, CAST(:device_id AS uuid)) AS device_id,
        lead.id AS lead_id, lead.name AS old_name, lead.niche AS old_niche, lead.niches AS old_niches,
        lead.target_status AS old_target_status, lead.journey AS old_journey, lead.device_id AS old_device_id
    FROM incoming LEFT JOIN leads AS lead ON lead.user_id = :user_id AND lead.phone = incoming.phone
), judged AS (
    SELECT *,
        CASE
            WHEN lead_id IS NULL THEN 'new'
            WHEN (name, niche, niches, target_status, journey, device_id) IS DISTINCT FROM
                 (old_name, old_niche, old_niches, old_target_status, old_journey, old_device_id) THEN 'updated'
            ELSE 'unchanged'
        END AS verdict
    FROM merged
)
"""

_COMPARE = text(_MERGED + "SELECT line, verdict FROM judged")  # noqa: S608 -- two constants

_MERGE = text(
    _MERGED  # noqa: S608 -- two constants
    + """, written AS (
    INSERT INTO leads (
        user_id, device_id, name, phone, niche, niches, journey, status, target_status, source, created_at, updated_at
    )
    SELECT :user_id, device_id, name, phone, niche, niches, journey, 'new', target_status, :source, :now, :now
    FROM judged WHERE verdict <> 'unchanged' ORDER BY line
    ON CONFLICT (user_id, phone) DO UPDATE SET
        device_id = excluded.device_id, name = excluded.name, niche = excluded.niche, niches = excluded.niches,
        journey = excluded.journey, target_status = excluded.target_status, updated_at = excluded.updated_at
)
SELECT line, verdict FROM judged"""
)


async def compare_rows(session: AsyncSession, rules: MergeRules, rows: Sequence[LeadRow]) -> dict[int, Verdict]:
    """What merging the rows would do, by line; writes nothing."""
    result = await session.execute(_COMPARE, _parameters(rules, rows))
    return {line: Verdict(verdict) for line, verdict in result}


async def merge_rows(session: AsyncSession, rules: MergeRules, rows: Sequence[LeadRow], now: datetime) -> dict[int, Verdict]:
    """Add the leads that are new and change those that differ; returns what became of each row, by line.

    No two rows may have the same phone. Leads that would not change are not written at all.
    """
    # One batch of a user at a time: what is compared is what is written, and two imports cannot wait for each other's rows.
    await session.execute(select(User.id).where(User.id == rules.user_id).with_for_update(key_share=True))
    result = await session.execute(_MERGE, {**_parameters(rules, rows), "source": IMPORTED, "now": now})
    return {line: Verdict(verdict) for line, verdict in result}


def _parameters(rules: MergeRules, rows: Sequence[LeadRow]) -> dict[str, object]:
    return {
        "user_id": rules.user_id,
        "device_id": rules.device_id,
        "has_niche": "niche" in rules.columns,
        "has_status": "target_status" in rules.columns,
        "has_note": "additional_note" in rules.columns,
        "lines": [row.line for row in rows],
        "names": [row.name for row in rows],
        "phones": [row.phone for row in rows],
        "niches": [row.niche for row in rows],
        "tags": [",".join(row.niches) for row in rows],
        "target_statuses": [row.target_status for row in rows],
        "journeys": [row.journey for row in rows],
        "device_ids": [row.device_id for row in rows],
    }
