"""Durable workflows: campaigns and device lanes."""
