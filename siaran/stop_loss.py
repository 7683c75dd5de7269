"""Canary and stop-loss: a campaign goes out to a few first, and stops by itself when too much goes wrong."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.models import Campaign

FEWEST_TO_JUDGE = 20
"""A rate over fewer messages than this says nothing, unless they are the whole canary."""

CANARY_FAILED_PERCENT = 20
"""What a canary may lose where the campaign names no threshold of its own."""

CANARY_WATCH = timedelta(minutes=10)
"""How long opt-outs are waited for after the canary's last message, where the campaign names a threshold for them."""

STOPPED = "stopped by itself: "
"""How the reason begins of a campaign that has paused by itself."""

LOOK_EVERY = timedelta(seconds=3)
"""How often a campaign with a threshold looks at its rates."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How a campaign's messages have ended so far, and how many of those written to have opted out since."""

    succeeded: int = 0
    failed: int = 0
    opted_out: int = 0
    last_at: datetime | None = None

    @property
    def ended(self) -> int:
        """Messages that were transmitted, or could not be."""
        return self.succeeded + self.failed

    def since(self, baseline: dict[str, int]) -> "Outcomes":
        """What has come on top of a baseline."""
        return Outcomes(
            self.succeeded - baseline.get("succeeded", 0),
            self.failed - baseline.get("failed", 0),
            self.opted_out - baseline.get("opted_out", 0),
            self.last_at,
        )


# `unknown` counts as failed, as everywhere. The last instant is asked for while the rows are few: they are the canary.
_OUTCOMES = text("""
    SELECT coalesce(sum(k.sent + k.delivered + k.read), 0)::int AS succeeded,
        coalesce(sum(k.failed + k.unknown), 0)::int AS failed,
        (SELECT count(*) FROM suppressions x
            WHERE x.user_id = :user AND x.campaign_id = :campaign AND x.source = 'reply')::int AS opted_out,
        CASE WHEN :wants_last THEN (SELECT max(coalesce(m.sent_at, m.claimed_at)) FROM broadcast_messages m
            WHERE m.user_id = :user AND m.campaign_id = :campaign) END AS last_at
    FROM campaign_counts k WHERE k.campaign_id = :campaign AND k.user_id = :user
""")


async def outcomes_of(session: AsyncSession, campaign: Campaign) -> Outcomes:
    """Read how a campaign's messages ended; what failed before it was resumed and is sent again is judged like any other."""
    values = {"user": campaign.user_id, "campaign": campaign.id, "wants_last": is_canary_out(campaign)}
    row = (await session.execute(_OUTCOMES, values)).one()
    if row.failed < campaign.stop_baseline.get("failed", 0):
        campaign.stop_baseline = {**campaign.stop_baseline, "failed": row.failed}
    return Outcomes(row.succeeded, row.failed, row.opted_out, row.last_at)


def has_threshold(campaign: Campaign) -> bool:
    """Whether the campaign may stop by itself."""
    return campaign.stop_failed_percent is not None or campaign.stop_opted_out_percent is not None


def is_canary_out(campaign: Campaign) -> bool:
    """Whether the first messages have been written, and the others wait for how they do."""
    return (
        campaign.canary_size is not None
        and campaign.canary_passed_at is None
        and campaign.expanded_at is None
        and campaign.expanded >= campaign.canary_size
    )


def canary_room(campaign: Campaign) -> int | None:
    """How many messages may be written before the canary has been judged; None is no bound."""
    if campaign.canary_size is None or campaign.canary_passed_at is not None:
        return None
    return max(0, campaign.canary_size - campaign.expanded)


def why_stop(campaign: Campaign, outcomes: Outcomes, *, fewest: int = FEWEST_TO_JUDGE) -> str | None:
    """Why a campaign has to stop by itself, for people to read; None while it may go on, or fewer than `fewest` have ended."""
    canary = is_canary_out(campaign)
    if not (canary or has_threshold(campaign)):
        return None
    new = outcomes.since(campaign.stop_baseline)
    if new.ended < fewest:
        return None
    limit = campaign.stop_failed_percent
    if limit is None and canary:
        limit = CANARY_FAILED_PERCENT
    if limit is not None and new.failed * 100 > limit * new.ended:
        return f"{STOPPED}{new.failed} of {new.ended} messages failed, {limit} % may"
    limit = campaign.stop_opted_out_percent
    if limit is not None and new.opted_out * 100 > limit * max(new.succeeded, 1):
        return f"{STOPPED}{new.opted_out} of {new.succeeded} contacts opted out, {limit} % may"
    return None


def watch_until(campaign: Campaign, outcomes: Outcomes) -> datetime | None:
    """Until when a canary that is out is watched for opt-outs; None where nothing is to be waited for."""
    if campaign.stop_opted_out_percent is None or outcomes.last_at is None:
        return None
    return outcomes.last_at + CANARY_WATCH


async def note_resumed(session: AsyncSession, campaign: Campaign) -> None:
    """Somebody resumes a campaign that had stopped by itself: from now on only what comes is judged."""
    if (campaign.status_reason or "").startswith(STOPPED):
        counts = asdict(await outcomes_of(session, campaign))
        campaign.stop_baseline = {name: counts[name] for name in ("succeeded", "failed", "opted_out")}
