"""Tests of hosts, their queues and the fleet."""
