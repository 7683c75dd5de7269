"""Recorded histories replay on the workflows of today, and hold nothing about people."""

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner
from temporalio.workflow import NondeterminismError

from siaran.contracts import CampaignInput, EnrollmentInput, LaneInput, LeadImportInput, SequenceInput, WebhookInput
from siaran.temporal import DATA_CONVERTER
from tests.workflows.record_histories import HISTORIES, TEXT
from worker.__main__ import STEP_WORKFLOWS, WORKFLOW_RUNNER, WORKFLOWS

RECORDED = sorted(HISTORIES.rglob("*.json"))
IDS = [path.relative_to(HISTORIES).as_posix() for path in RECORDED]
PHONE = re.compile(r"(?<![0-9a-f-])60\d{8,11}(?!\d)")


def read(path: Path) -> WorkflowHistory:
    return WorkflowHistory.from_json(path.stem, path.read_text())


def strings(value: Any) -> list[str]:
    """Every text in a message or in a part of one, payloads decoded."""
    if isinstance(value, str | bytes):
        return [value if isinstance(value, str) else value.decode(errors="replace")]
    if isinstance(value, Message):
        return [text for _, part in value.ListFields() for text in strings(part)]
    if isinstance(value, Mapping):
        return [text for pair in value.items() for part in pair for text in strings(part)]
    return [text for part in value for text in strings(part)] if isinstance(value, Iterable) else []


@pytest.mark.parametrize("path", RECORDED, ids=IDS)
async def test_a_recorded_history_replays(path: Path) -> None:
    workflows = [*WORKFLOWS, *STEP_WORKFLOWS]
    replayer = Replayer(workflows=workflows, workflow_runner=WORKFLOW_RUNNER, data_converter=DATA_CONVERTER)

    await replayer.replay_workflow(read(path))


def test_the_histories_meet_every_activity_timer_and_signal() -> None:
    met = {
        text for path in RECORDED for event in read(path).events for text in strings(event) if re.fullmatch(r"[a-z_]+", text)
    }

    assert {"plan_campaign", "expand_audience", "cancel_pending", "retry_failed", "changed"} <= met
    assert {"plan_lane", "fail_over", "send", "wake"} <= met
    assert {"import_leads", "cancel_import"} <= met
    assert {"enroll", "retry_step"} <= met
    assert {"deliver_webhooks", "news"} <= met
    assert any("take_step" in text for path in RECORDED for event in read(path).events for text in strings(event))


@pytest.mark.parametrize("path", RECORDED, ids=IDS)
def test_a_history_holds_no_phone_number_name_or_text(path: Path) -> None:
    found = [text for event in read(path).events for text in strings(event)]

    names = ("campaign_id", "device_id", "import_id", "sequence_id", "target")
    assert any(name in text for text in found for name in names), "payloads are decoded"
    for text in found:
        assert not PHONE.search(text), text
        assert "Zulaikha" not in text
        assert TEXT[:13] not in text
        assert "://" not in text


@workflow.defn(name="CampaignWorkflow")
class ChangedCampaign:
    """A campaign that sleeps first."""

    @workflow.run
    async def run(self, campaign: CampaignInput) -> str:
        await workflow.sleep(1)
        return str(campaign.campaign_id)


@workflow.defn(name="DeviceWorkflow")
class ChangedDevice:
    """A lane that sleeps first."""

    @workflow.run
    async def run(self, lane: LaneInput) -> str:
        await workflow.sleep(1)
        return str(lane.device_id)


@workflow.defn(name="LeadImportWorkflow")
class ChangedImport:
    """An import that sleeps first."""

    @workflow.run
    async def run(self, order: LeadImportInput) -> str:
        await workflow.sleep(1)
        return str(order.import_id)


@workflow.defn(name="SequenceWorkflow")
class ChangedSequence:
    """A sequence that sleeps first."""

    @workflow.run
    async def run(self, order: SequenceInput) -> str:
        await workflow.sleep(1)
        return str(order.sequence_id)


@workflow.defn(name="EnrollmentWorkflow")
class ChangedEnrollment:
    """A contact who is looked at by another name."""

    @workflow.run
    async def run(self, order: EnrollmentInput) -> str:
        result: str = await workflow.execute_activity("look", order, start_to_close_timeout=timedelta(seconds=1))
        return result


@workflow.defn(name="WebhookWorkflow")
class ChangedWebhook:
    """Deliveries that wait first."""

    @workflow.run
    async def run(self, order: WebhookInput) -> str:
        await workflow.sleep(1)
        return order.target


@pytest.mark.parametrize("path", RECORDED, ids=IDS)
async def test_a_workflow_that_has_changed_does_not_replay(path: Path) -> None:
    changed = [ChangedCampaign, ChangedDevice, ChangedImport, ChangedSequence, ChangedEnrollment, ChangedWebhook]
    replayer = Replayer(workflows=changed, workflow_runner=UnsandboxedWorkflowRunner(), data_converter=DATA_CONVERTER)

    with pytest.raises(NondeterminismError):
        await replayer.replay_workflow(read(path))
