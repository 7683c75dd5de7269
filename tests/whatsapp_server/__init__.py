"""A loopback WhatsApp server that drives the real client: its own process, scripted from tests."""
