"""The leads of the demo are what `examples/README.md` says they are."""

from collections import Counter
from pathlib import Path

import phonenumbers
import pytest

from siaran.lead_rows import RowRules, Verdict, read_batches
from siaran.leads_csv import LeadFile

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def batch():
    with (EXAMPLES / "leads.csv").open("rb") as file:
        (batch,) = read_batches(LeadFile(file), RowRules("MY", frozenset()), size=5_000)
    return batch


def test_most_rows_can_be_imported_and_the_others_are_of_every_kind(batch):
    assert len(batch.rows) == 980
    assert Counter(row.verdict for row in batch.rejected) == {Verdict.DUPLICATE: 20, Verdict.INVALID: 8}
    assert len({row.reason for row in batch.rejected if row.verdict is Verdict.INVALID}) == 7


def test_about_400_leads_are_prospects_of_one_niche(batch):
    chosen = [row for row in batch.rows if "EXSTART" in row.niches and row.target_status == "prospect"]
    assert 350 <= len(chosen) <= 450


def test_its_numbers_belong_to_nobody(batch):
    numbers = [phonenumbers.parse(f"+{row.phone}") for row in batch.rows]
    assert not any(phonenumbers.is_valid_number(number) for number in numbers)
