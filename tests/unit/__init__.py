"""Tests of pure functions."""
