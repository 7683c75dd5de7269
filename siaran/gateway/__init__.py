"""WhatsApp behind one interface: the values, the simulated network."""
