"""The real WhatsApp client against the loopback server."""
