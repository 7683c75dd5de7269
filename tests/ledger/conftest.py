"""Fixtures of the ledger's tests."""

import pytest

from siaran.db import SessionMaker
from tests.ledger.driver import Ledger


@pytest.fixture
async def ledger(sessions: SessionMaker) -> Ledger:
    """A user and a host with a live lease."""
    ledger = Ledger(sessions)
    await ledger.open()
    return ledger


@pytest.fixture
def temporal_namespace() -> str:
    """None of its own: the ledger knows nothing of Temporal."""
    return "default"
