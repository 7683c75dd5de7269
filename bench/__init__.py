"""Measurements of speed, memory and scale; never part of the tests."""
