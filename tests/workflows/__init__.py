"""Tests of the workflows, on a real Temporal server."""
