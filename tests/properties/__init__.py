"""Tests of what holds whatever people and devices do."""
