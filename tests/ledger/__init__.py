"""Tests of the ledger: claims, records, receipts, settlement, moves, retries."""
