"""Fixtures of the workflows' tests: a client whose workflows skip time, and workers."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from temporalio.client import Client
from temporalio.testing import TimeSkipper
from temporalio.worker import Worker

from siaran.contracts import BULK_QUEUE, STEP_QUEUE, WORKFLOW_QUEUE, device_queue
from tests.workflows.skipped_time import Days
from worker.__main__ import STEP_WORKFLOWS, WORKFLOW_RUNNER, WORKFLOWS


@pytest.fixture
def skipper(temporal_client: Client) -> TimeSkipper:
    """Workflows that are started through its client skip the time in which they only wait."""
    return TimeSkipper(temporal_client)


@pytest.fixture
def skipping_client(skipper: TimeSkipper) -> Client:
    """A client whose workflows skip time."""
    return skipper.client


@pytest.fixture
def offset_file(tmp_path: Path) -> Path:
    """Where it stands by how much the clock of a test's processes has been set forward."""
    return tmp_path / "offset"


@pytest.fixture
def days(temporal_client: Client, offset_file: Path) -> Days:
    """One clock for workflows, hosts and SQL, which the test sets forward."""
    return Days.beginning(temporal_client, offset_file)


@asynccontextmanager
async def workflow_worker(client: Client, activities: Sequence[Callable[..., Any]]) -> AsyncIterator[None]:
    """Runs all workflows as the product does, with these activities on every queue."""
    async with (
        Worker(client, task_queue=WORKFLOW_QUEUE, workflows=WORKFLOWS, activities=activities, workflow_runner=WORKFLOW_RUNNER),
        Worker(client, task_queue=STEP_QUEUE, workflows=STEP_WORKFLOWS, activities=activities, workflow_runner=WORKFLOW_RUNNER),
        Worker(client, task_queue=BULK_QUEUE, activities=activities),
    ):
        yield


def device_worker(client: Client, device_id: UUID, send: Callable[..., Any], *, at_once: int = 1) -> Worker:
    """Runs the send activities of one device."""
    return Worker(client, task_queue=device_queue(device_id), activities=[send], max_concurrent_activities=at_once)
