"""Whom the demo's campaign is to reach, read from the CSV file itself and not by the product's own import."""

import csv
from dataclasses import dataclass
from pathlib import Path

from siaran.niches import parse_niches
from siaran.phone import InvalidPhone, normalise_phone

STATUSES = {"": "prospect", "prospect": "prospect", "customer": "customer"}


@dataclass(frozen=True, slots=True)
class Audience:
    """What is in the file: `leads` are the phones that make leads, `matched` those whom the campaign addresses."""

    rows: int
    leads: frozenset[str]
    matched: frozenset[str]


def read_audience(path: Path, *, niche: str, target_status: str, country: str) -> Audience:
    """Read the file; of several rows with one phone the first that is valid counts."""
    rows, leads, matched = 0, set[str](), set[str]()
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            rows += 1
            status = STATUSES.get(row["target_status"].strip().lower())
            try:
                phone = normalise_phone(row["phone"], country)
            except InvalidPhone:
                continue
            if status is None or not row["name"].strip() or phone in leads:
                continue
            leads.add(phone)
            if status == target_status and niche in parse_niches(row["niche"]):
                matched.add(phone)
    return Audience(rows, frozenset(leads), frozenset(matched))
