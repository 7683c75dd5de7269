"""Inputs and results of every workflow and activity: ids and counts only, never phone numbers or texts."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

WORKFLOW_QUEUE = "siaran"
"""The task queue of all workflows and of the short database activities."""

BULK_QUEUE = "siaran:bulk"
"""The task queue of activities that work through many rows: however many there are, plans are not kept waiting by them."""


IMPORT_QUEUE = "siaran:imports"
"""The task queue of imports: each takes a thread for minutes, and must not take the place of what moves lanes and campaigns."""

WEBHOOK_QUEUE = "siaran:webhooks"
"""The task queue of deliveries to webhooks: each waits for somebody else's server, and must keep nothing of ours waiting."""

STEP_QUEUE = "siaran:steps"
"""The task queue of contacts' walks through sequences, workflows and activities alike.

Tens of thousands may fall due in the same minute, and are open for months: lanes and campaigns neither wait behind them nor
share a cache of workflows with them.
"""


def device_queue(device_id: UUID) -> str:
    """The task queue on which a device's host polls while the device's lane is awake."""
    return f"device:{device_id}"


def host_queue(host_id: int) -> str:
    """The task queue on which a host answers reads: number checks, contacts, pictures."""
    return f"host:{host_id}"


def device_workflow_id(device_id: UUID) -> str:
    """The id of a device's lane workflow."""
    return f"device:{device_id}"


def campaign_workflow_id(campaign_id: int) -> str:
    """The id of a campaign's workflow."""
    return f"campaign:{campaign_id}"


def import_workflow_id(import_id: UUID) -> str:
    """The id of the workflow of an import of leads."""
    return f"import:{import_id}"


def sequence_workflow_id(sequence_id: UUID) -> str:
    """The id of a sequence's workflow."""
    return f"sequence:{sequence_id}"


def enrollment_workflow_id(sequence_id: UUID, lead_id: int) -> str:
    """The id of the workflow of one contact's walk through a sequence."""
    return f"enrollment:{sequence_id}:{lead_id}"


def webhook_workflow_id(target: str) -> str:
    """The id of the workflow that delivers to one address for one user; `target` is as in `webhook_deliveries`."""
    return f"webhook:{target}"


@dataclass(frozen=True, slots=True)
class CampaignInput:
    """Starts, or goes on with, a campaign; what phase it is in is read from its row."""

    campaign_id: int
    user_id: UUID


class CampaignAction(StrEnum):
    """What a campaign's workflow does next, as its row says."""

    SLEEP = "sleep"
    EXPAND = "expand"
    REBALANCE = "rebalance"
    FOLLOW = "follow"
    SETTLE_CANCELLED = "settle_cancelled"
    END = "end"


@dataclass(frozen=True, slots=True)
class CampaignPlan:
    """The next action of a campaign's workflow; `until_at` bounds the sleep, `None` waits for a signal alone."""

    action: CampaignAction
    status: str
    until_at: datetime | None = None
    reason: str = ""
    pending: int = 0
    done: int = 0


@dataclass(frozen=True, slots=True)
class ExpansionResult:
    """How many ledger rows an expansion wrote and on how many devices.

    `finished` unless it was paused or cancelled; `has_more` says that it only made room for others and goes on at once.
    """

    messages: int
    devices: int
    finished: bool
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class RetryInput:
    """Carry out one request of `campaign_retries`."""

    campaign_id: int
    user_id: UUID
    retry_id: UUID


@dataclass(frozen=True, slots=True)
class LaneInput:
    """Starts, or goes on with, a device's lane; `is_open` says that the waker has already set it running."""

    device_id: UUID
    user_id: UUID
    is_open: bool = True


@dataclass(frozen=True, slots=True)
class SendInput:
    """One send activity of a lane."""

    device_id: UUID
    user_id: UUID


@dataclass(frozen=True, slots=True)
class HostRead:
    """One read of a device; question and answer pass through Redis under the token."""

    device_id: UUID
    token: str


class SliceEnd(StrEnum):
    """Why a send activity stopped."""

    WINDOW = "window"
    DRAINED = "drained"
    CAP = "cap"
    PAUSED = "paused"
    OFFLINE = "offline"
    RESTRICTED = "restricted"
    FENCED = "fenced"


@dataclass(frozen=True, slots=True)
class SendResult:
    """What a send activity did and why it stopped; the lane sends again at `next_at` at the earliest."""

    sent: int
    failed: int
    unknown: int
    suppressed: int
    ended: SliceEnd
    next_at: datetime | None = None
    campaign_id: int | None = None


class LaneAction(StrEnum):
    """What a lane does next, as the ledger says."""

    SEND = "send"
    WAIT = "wait"
    FAIL_OVER = "fail_over"
    END = "end"


@dataclass(frozen=True, slots=True)
class LaneCheck:
    """Asks what a lane should do next; `ended` and `next_at` come from its last send activity, if any."""

    device_id: UUID
    user_id: UUID
    ended: SliceEnd | None = None
    next_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LanePlan:
    """The next action of a lane; `until_at` bounds a wait, `None` waits for a signal alone; `why` is shown to operators."""

    action: LaneAction
    why: str = ""
    until_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FailoverResult:
    """How many pending messages of a device moved, and to how many devices."""

    moved: int
    devices: int


@dataclass(frozen=True, slots=True)
class Moved:
    """A device's connection is now held by another host."""

    host_id: int


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a sweep found: campaigns nudged, lanes woken, stale claims ended, sequences nudged."""

    campaigns: int
    lanes: int
    stale_claims: int
    sequences: int = 0


@dataclass(frozen=True, slots=True)
class LeadImportInput:
    """Works through, or goes on with, an import of leads; how far it has come is read from its row."""

    import_id: UUID
    user_id: UUID


@dataclass(frozen=True, slots=True)
class LeadImportResult:
    """How an import ended, and how many rows of the file it has done."""

    status: str
    rows: int


@dataclass(frozen=True, slots=True)
class SequenceInput:
    """Starts, or goes on with, a sequence; whether it is active is read from its row."""

    sequence_id: UUID
    user_id: UUID


@dataclass(frozen=True, slots=True)
class EnrollingResult:
    """What one round of enrolling did; `has_more` says that it only made room for others and goes on at once.

    `is_over` says that the sequence is gone and its workflow may end.
    """

    enrolled: int
    started: int
    signalled: int
    status: str
    contacts: int = 0
    has_more: bool = False
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class EnrollmentInput:
    """Starts, or goes on with, one contact's walk; it sleeps until `next_at`, or looks at once where that is None.

    Runs of before `lists_days` wrote each day to lists of executions, and replay so; see ADR 13.
    """

    enrollment_id: int
    sequence_id: UUID
    lead_id: int
    user_id: UUID
    next_at: datetime | None = None
    lists_days: bool = True


@dataclass(frozen=True, slots=True)
class StepOrder:
    """Look at a contact's place at `now`, the workflow's own clock, and queue the step that is due, if one is."""

    enrollment_id: int
    user_id: UUID
    now: datetime


class StepAction(StrEnum):
    """What a contact's workflow does next."""

    WAIT = "wait"
    END = "end"


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What comes next for a contact: `next_at` bounds the sleep, None waits for a signal alone.

    `day` of `days` is the last one that was queued; `why` is shown to operators.
    """

    action: StepAction
    next_at: datetime | None = None
    day: int = 0
    days: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class StepRetry:
    """Send one failed step of a contact again."""

    enrollment_id: int
    user_id: UUID
    message_id: int


@dataclass(frozen=True, slots=True)
class WebhookReach:
    """How an address has answered lately, as one round of deliveries tells the next.

    `failing` are deliveries that failed since the last success, a few of them; `holds` counts the pauses that were made for all
    of the address's deliveries since then, and `held_until_at` ends the present one.
    """

    failing: tuple[int, ...] = ()
    holds: int = 0
    held_until_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class WebhookInput:
    """Delivers, or goes on delivering, what is pending for one address of one user."""

    user_id: UUID
    target: str
    reach: WebhookReach = WebhookReach()


@dataclass(frozen=True, slots=True)
class WebhookRound:
    """What a round of deliveries did; the next one is due at `next_at`, None when nothing is pending."""

    delivered: int
    failed: int
    reach: WebhookReach
    next_at: datetime | None = None
